import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attack, FLOODS, FUZZED } from './attack.ts'
import { buildWorld } from './world.ts'

/** A short form of `npm run test:fuzz`: some thousand inputs, each time other ones, and the seed in what fails. */
const COUNTS: Record<string, number> = {
  channels: 5000,
  functions: 3000,
  messages: 3000,
  frames: 3000,
  http: 600,
  upgrades: 600,
  tickets: 400,
}

/** A few connections each. Those that wait for a deadline have a test where the deadline is, and no short form. */
const FLOOD_COUNTS: Record<string, number> = {
  pings: 20_000,
  fragments: 100_000,
  empties: 2000,
  closes: 2000,
  churn: 300,
  bombs: 60,
  deaf: 1,
}

test('every target that needs no deadline has a short form', () => {
  assert.deepEqual(Object.keys(COUNTS), Object.keys(FUZZED))
  assert.deepEqual(Object.keys(FLOOD_COUNTS), Object.keys(FLOODS))
})

test('floods: whatever its clients do, a node keeps nothing of it and serves the others', async t => {
  const seed = Math.floor(Math.random() * 1_000_000)
  const world = await buildWorld(t, seed)
  for (const [name, count] of Object.entries(FLOOD_COUNTS)) {
    const { inputs, problems, outcomes } = await attack(world, name, {
      count,
      seconds: Number.POSITIVE_INFINITY,
      warmUp: 1,
    })
    t.diagnostic(`${name}, seed ${seed}: ${JSON.stringify(outcomes)}`)
    assert.deepEqual(problems, [], `${name}, seed ${seed}`)
    assert.ok(inputs >= count, `${name}, seed ${seed}: ${inputs} inputs`)
  }
})

for (const [name, count] of Object.entries(COUNTS)) {
  test(`fuzz ${name}: the node answers or refuses, counts it once, and keeps nothing`, async t => {
    const seed = Math.floor(Math.random() * 1_000_000)
    const world = await buildWorld(t, seed)
    const { inputs, problems, beats, outcomes } = await attack(world, name, {
      count,
      seconds: Number.POSITIVE_INFINITY,
    })
    t.diagnostic(`seed ${seed}: ${JSON.stringify(outcomes)}`)
    assert.deepEqual(problems, [], `seed ${seed}`)
    assert.ok(inputs >= count && beats.beats > 0, `seed ${seed}: ${inputs} inputs, ${beats.beats} beats`)
  })
}

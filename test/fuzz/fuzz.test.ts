import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attack, TARGETS } from './attack.ts'
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

test('every target has a short form', () => {
  assert.deepEqual(Object.keys(COUNTS), Object.keys(TARGETS))
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

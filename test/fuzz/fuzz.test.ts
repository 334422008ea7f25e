import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attack, FLOODS, FUZZED, INPUTS, TARGETS } from './attack.ts'
import type { Target } from './target.ts'
import { buildWorld, type World } from './world.ts'

/** A short form of `npm run test:fuzz`: some thousand inputs, each time other ones, and the seed in what fails. */
const COUNTS: Record<string, number> = {
  channels: 5000,
  functions: 3000,
  messages: 3000,
  frames: 3000,
  http: 600,
  upgrades: 600,
  tickets: 400,
  visits: 600,
  streams: 400,
}

/** A few connections each. Those that wait for a deadline have a test where the deadline is, and no short form. */
const FLOOD_COUNTS: Record<string, number> = {
  pings: 10_000,
  fragments: 20_000,
  empties: 1000,
  closes: 1000,
  churn: 150,
  bombs: 30,
}

test('every target that needs no deadline has a short form', () => {
  assert.deepEqual(Object.keys(COUNTS), Object.keys(FUZZED))
  assert.deepEqual(Object.keys(FLOOD_COUNTS), Object.keys(FLOODS))
  assert.deepEqual(Object.keys(INPUTS), Object.keys(TARGETS))
})

test('floods: whatever its clients do, a node keeps nothing of it and serves the others', async t => {
  const seed = Math.floor(Math.random() * 1_000_000)
  const world = await buildWorld(t, seed)
  for (const [name, count] of Object.entries(FLOOD_COUNTS)) {
    const { inputs, problems, outcomes } = await attack(world, FLOODS[name]!, {
      count,
      seconds: Number.POSITIVE_INFINITY,
      warmUp: 1,
    })
    t.diagnostic(`${name}, seed ${seed}: ${JSON.stringify(outcomes)}`)
    assert.deepEqual(problems, [], `${name}, seed ${seed}`)
    assert.ok(inputs >= count, `${name}, seed ${seed}: ${inputs} inputs`)
  }
  await finds(world)
})

/** What is miscounted, late, too little or said in the log is found. */
async function finds(world: World): Promise<void> {
  const target: Target = async () => {
    world.failures.push('a line of the log')
    const counts = [{ counter: 'connections_opened_total', least: 1, most: 1 }]
    return { inputs: 1, outcomes: {}, counts, problems: ['what the target saw'] }
  }
  const rest = { beats: { beats: 1, p50: -1000, p99: -1000, max: 0 }, isApart: false }
  const { problems } = await attack(world, target, { count: 2, seconds: 1, rest })
  assert.deepEqual(
    problems.map(problem => problem.replaceAll(/[\d.]+ (ms|s)\b/g, '… $1')),
    [
      'what the target saw',
      'connections_opened_total grew by 0, not 1: {}',
      'the canary had p50 … ms; at rest it was -… ms',
      'the canary had p99 … ms; at rest it was -… ms',
      '1 of 2 inputs in … s: give it more time with --seconds, or a smaller --count',
      'a line of the log',
      'a line of the log',
    ],
  )
}

for (const [name, count] of Object.entries(COUNTS)) {
  test(`fuzz ${name}: the node answers or refuses, counts it once, and keeps nothing`, async t => {
    const seed = Math.floor(Math.random() * 1_000_000)
    const world = await buildWorld(t, seed)
    const { inputs, problems, beats, outcomes } = await attack(world, FUZZED[name]!, {
      count,
      seconds: Number.POSITIVE_INFINITY,
    })
    t.diagnostic(`seed ${seed}: ${JSON.stringify(outcomes)}`)
    assert.deepEqual(problems, [], `seed ${seed}`)
    assert.ok(inputs >= count && beats.beats > 0, `seed ${seed}: ${inputs} inputs, ${beats.beats} beats`)
  })
}

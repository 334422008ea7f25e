import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildPrograms, forgetPrograms } from './chaos/build.ts'
import { lineOf } from './chaos/report.ts'
import { runBounded } from './chaos/seed-run.ts'

/** The long runs are `npm run test:chaos`. */
const SEED = 20

test(`nothing is lost in silence while faults happen (seed ${SEED})`, async t => {
  const programs = await buildPrograms()
  t.after(() => forgetPrograms(programs))
  const verdict = await runBounded({
    seed: SEED,
    programs,
    topology: 'single',
    nodes: 3,
    clients: 30,
    lanes: 2,
    pace: 20,
    withPhp: false,
    seconds: 4,
    kinds: ['node-kill', 'link-cut', 'client-kill-pubsub', 'drop-reply', 'redis-kill'],
    keep: false,
  })
  assert.equal(verdict.violations.length, 0, lineOf(verdict))
  assert.ok(verdict.tally.recoveries.replayed! > 0)
})

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { transformSync } from 'esbuild'
import { buildPrograms, forgetPrograms } from './chaos/build.ts'
import type { FaultNote, Queued } from './chaos/facts.ts'
import { judge } from './chaos/judge.ts'
import { MUTANTS } from './chaos/mutants.ts'
import { firstHomeOf } from './chaos/slots.ts'
import { CHANNELS } from './chaos/topics.ts'
import { runChaos } from './helpers/chaos.ts'

/** The long runs are `npm run test:chaos`. */
const ARGUMENTS = ['--seed', '20', '--seconds', '4', '--clients', '30', '--visitors', '4']
const KINDS = {
  single: ['node-kill', 'link-cut', 'client-kill-pubsub', 'drop-reply', 'redis-kill'],
  cluster: ['slot-move', 'stream-move', 'shard-kill', 'client-kill-pubsub', 'library-flush'],
  'cluster-sharded': ['slot-move', 'shard-failover', 'link-cut', 'master-join'],
}

for (const [topology, kinds] of Object.entries(KINDS)) {
  test(`${topology}: nothing is lost in silence while faults happen (seed 20)`, async () => {
    const { code, output } = await runChaos(...ARGUMENTS, '--topology', topology, '--kinds', kinds.join(','))
    assert.equal(code, 0, output)
    assert.match(output, /recoveries\s+\d+:.*replayed [1-9]/)
  })
}

interface Request extends Partial<Queued> {
  /** Where it was recorded; absent: nowhere. */
  seq?: number
}

/** What the judge says of requests that queues took one after the other, a millisecond each. */
function judged(requests: readonly Request[], faults: readonly Partial<FaultNote>[] = []): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'push-judged-'))
  const published = requests.flatMap(({ seq, ...request }, t) => {
    const about = { topic: 'channel:t0', queue: 'kafka', ...request, lane: 'kafka', k: `${t}`, t }
    const ack = { ...about, e: 'ack', seq, id: `a.${seq}.0-0`, t: t + 100 }
    return [{ ...about, e: 'try' }, { ...about, e: 'queued' }, ...(seq === undefined ? [] : [ack])]
  })
  const hit = faults.flatMap((fault, number) => [
    { e: 'fault', number, t: 0, ...fault },
    { e: 'fault-end', number, t: 50 },
  ])
  for (const [name, notes] of Object.entries({ publishers: published, controller: hit })) {
    writeFileSync(join(folder, `${name}.jsonl`), notes.map(note => `${JSON.stringify(note)}\n`).join(''))
  }
  const { violations } = judge(1, folder)
  rmSync(folder, { recursive: true })
  return violations.map(({ invariant }) => invariant)
}

test('the judge asks for every request that a queue took, unless Redis forgot it', () => {
  assert.deepEqual(judged([{ seq: 1 }]), [])
  assert.deepEqual(judged([{}, { seq: 1 }]), ['missing'])
  assert.deepEqual(judged([{}], [{ kind: 'redis-rollback' }]), [])
  assert.deepEqual(judged([{}], [{ kind: 'rabbitmq-kill' }, { kind: 'redis-kill' }, { kind: 'kafka-hole' }]), [
    'missing',
  ])
})

test('on a Cluster the judge takes the shard of the stream for a reason only where the stream had the request', () => {
  const shard = firstHomeOf('push:ingress')
  const topic = CHANNELS.find(channel => firstHomeOf(`push:${channel}`) !== shard)!
  const lost = [{ kind: 'shard-kill', shard, promoted: true }] as const
  assert.deepEqual(judged([{ topic, queue: 'streams' }], lost), [])
  assert.deepEqual(judged([{ topic, queue: 'rabbitmq' }], lost), ['missing'])
})

test('the judge wants the order of a queue where it holds', () => {
  const sequence = 'requests/0'
  const turned = [{ seq: 2 }, { seq: 1 }]
  assert.deepEqual(judged(turned), [])
  assert.deepEqual(judged(turned.map(request => ({ ...request, sequence }))), ['order'])
  assert.deepEqual(judged(turned.toReversed().map(request => ({ ...request, sequence }))), [])
  assert.deepEqual(
    judged([
      { seq: 2, sequence },
      { seq: 1, sequence: 'requests/1' },
    ]),
    [],
  )
})

test('every mutant changes the source: what it looks for stands there once, and the result is a program', () => {
  for (const { name, replacements } of MUTANTS) {
    const changed = new Map<string, string>()
    for (const { file, find, replace } of replacements) {
      const source = changed.get(file) ?? readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
      assert.equal(source.split(find).length - 1, 1, `${name}: ${file} has ${find}`)
      changed.set(
        file,
        source.replace(find, () => replace),
      )
    }
    for (const [file, source] of changed) {
      if (file.endsWith('.ts')) assert.doesNotThrow(() => transformSync(source, { loader: 'ts' }), `${name}: ${file}`)
    }
  }
})

test('the programs of a broken variant can be built: the copy has all that they import', async () => {
  forgetPrograms(await buildPrograms(MUTANTS[0]!.replacements))
})

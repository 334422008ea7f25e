import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../../../src/broker/metrics.ts'
import { Percentiles } from '../../../src/node/monitoring/percentiles.ts'
import { Samples } from '../../../src/node/monitoring/samples.ts'

test('percentiles are within six hundredths of the values, from microseconds to minutes', () => {
  for (const scale of [0.02, 1, 50, 1000, 40_000]) {
    const percentiles = new Percentiles()
    const values = Array.from({ length: 1000 }, (_, i) => scale * (1 + i / 1000))
    for (const value of values) percentiles.add(value)
    const { p50, p99 } = percentiles.lately!
    for (const [found, exact] of [
      [p50, values[499]!],
      [p99, values[989]!],
    ] as const) {
      assert.ok(found >= exact * 0.99 && found <= exact * 1.061, `${found} for ${exact}`)
    }
  }
})

test('what is nothing, very little or very much has a place too', () => {
  const percentiles = new Percentiles()
  assert.deepEqual([percentiles.lately, percentiles.p99], [undefined, 0])
  for (const value of [0, -1, 0.001]) percentiles.add(value)
  assert.deepEqual(percentiles.lately, { p50: 0, p99: 0 })
  percentiles.add(1e12)
  assert.ok(percentiles.p99 > 60_000)
})

test('only this period and the one before it count', () => {
  const percentiles = new Percentiles()
  percentiles.add(1000)
  percentiles.rotate()
  percentiles.add(1)
  assert.ok(percentiles.lately!.p99 >= 1000)
  assert.ok(percentiles.p99 < 2)
  percentiles.rotate()
  assert.ok(percentiles.lately!.p99 < 2)
  percentiles.rotate()
  assert.equal(percentiles.lately, undefined)
})

test('samples say what was added since the one before, and reach back ten minutes', () => {
  const metrics = new Metrics()
  metrics.count('publications_received_total', 5)
  const samples = new Samples(metrics)
  const moment = { connections: 1, lag: 0, loopDelay: 2, rss: 3 }
  metrics.count('publications_received_total', 7)
  metrics.count('messages_refused_total', 1, 'PUSH_ERR_TOPIC')
  metrics.count('upgrades_refused_total', 2, 'PUSH_ERR_FULL')
  let written = 0
  metrics.follow('written_bytes_total', () => written)
  written = 9
  samples.take({ at: 0, ...moment })
  const taken = { at: 0, ...moment, received: 7, delivered: 0, refused: 3, writtenBytes: 9 }
  assert.deepEqual(samples.all, [taken])
  for (let at = 1; at <= 150; at++) samples.take({ at, ...moment })
  assert.deepEqual(
    samples.all.map(({ at }) => at),
    Array.from({ length: 120 }, (_, i) => i + 31),
  )
  assert.deepEqual(samples.all.at(-1)!.received, 0)
})

test('a total is that of all reasons, and of no other counter', () => {
  const metrics = new Metrics()
  metrics.count('messages_received_total', 3)
  metrics.count('messages_received_bytes_total', 100)
  metrics.count('gaps_total', 1, 'overload')
  metrics.count('gaps_total', 2, 'broker_link')
  metrics.follow('publications_sent_total', () => 4, 'app')
  const totals = (['messages_received_total', 'gaps_total', 'publications_sent_total'] as const).map(name =>
    metrics.total(name),
  )
  assert.deepEqual(totals, [3, 3, 4])
})

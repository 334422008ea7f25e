import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../src/broker/metrics.ts'

test('counters begin where they are first counted, and add up', () => {
  const metrics = new Metrics()
  assert.deepEqual(metrics.snapshot(), {})
  metrics.count('connections_opened_total')
  metrics.count('connections_opened_total', 4)
  assert.deepEqual(metrics.snapshot(), { connections_opened_total: 5 })
})

test('every reason is a counter of its own', () => {
  const metrics = new Metrics()
  metrics.count('publications_rejected_total', 1, 'json')
  metrics.count('publications_rejected_total', 2, 'schema')
  metrics.count('connections_closed_total', 1, 1000)
  metrics.count('publications_rejected_total', 1, 'json')
  assert.deepEqual(metrics.snapshot(), {
    'connections_closed_total{1000}': 1,
    'publications_rejected_total{json}': 2,
    'publications_rejected_total{schema}': 2,
  })
})

test('what is counted elsewhere is in the snapshot as soon as it is more than 0', () => {
  const metrics = new Metrics()
  let bytes = 0
  metrics.follow('written_bytes_total', () => bytes)
  metrics.follow('publications_sent_total', () => bytes * 2, 'app')
  assert.deepEqual(metrics.snapshot(), {})
  bytes = 7
  metrics.count('connections_opened_total')
  assert.deepEqual(metrics.snapshot(), {
    connections_opened_total: 1,
    'publications_sent_total{app}': 14,
    written_bytes_total: 7,
  })
})

test('reasons that come from outside do not fill the memory, and what is known goes on being counted', () => {
  const metrics = new Metrics()
  for (let n = 0; n < 5000; n++) metrics.count('messages_refused_total', 1, `ERR_${n}`)
  metrics.count('messages_refused_total', 2, 'ERR_1')
  metrics.count('deliveries_total', 3)
  const snapshot = metrics.snapshot()
  assert.ok(Object.keys(snapshot).length <= 1002)
  assert.equal(snapshot['messages_refused_total{ERR_1}'], 3)
  assert.equal(snapshot['messages_refused_total{other}'], 4000)
  assert.equal(snapshot.deliveries_total, 3)
})

test('a snapshot is sorted, and is not the counters themselves', () => {
  const metrics = new Metrics()
  metrics.count('messages_received_total')
  metrics.count('gaps_total')
  metrics.count('deliveries_total', 0)
  const snapshot = metrics.snapshot()
  assert.deepEqual(Object.keys(snapshot), ['deliveries_total', 'gaps_total', 'messages_received_total'])
  snapshot.gaps_total = 99
  assert.equal(metrics.snapshot().gaps_total, 1)
})

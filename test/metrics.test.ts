import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../src/metrics.ts'

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

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Health, isReady } from '../../src/node/health.ts'

function healthOf(start: number) {
  const hub = { isDraining: false, broker: { connected: false } }
  return { hub, health: new Health(hub, start, 0) }
}

test('a node that starts is not ready until Redis is there', () => {
  const { hub, health } = healthOf(1000)
  assert.equal(health.state(999), 'starting')
  hub.broker.connected = true
  assert.equal(health.state(999), 'ok')
  hub.broker.connected = false
  assert.equal(health.state(999), 'degraded', 'it has started once and for all')
})

test('a node that had Redis when it was registered has started, also if nobody asked before Redis was lost', () => {
  const hub = { isDraining: false, broker: { connected: true } }
  const health = new Health(hub, 1000, 0)
  hub.broker.connected = false
  assert.equal(health.state(1), 'degraded')
})

test('the start is bounded: without Redis it ends too', () => {
  const { health } = healthOf(1000)
  assert.equal(health.state(1000), 'degraded')
  assert.equal(healthOf(0).health.state(0), 'degraded')
})

test('a node that drains says that, whatever else is wrong', () => {
  const { hub, health } = healthOf(1000)
  hub.isDraining = true
  assert.equal(health.state(0), 'draining')
  hub.broker.connected = true
  assert.equal(health.state(2000), 'draining')
})

test('without Redis it is ready, unless one is strict', () => {
  const table = (['ok', 'degraded', 'starting', 'draining'] as const).map(state => [
    state,
    isReady(state, false),
    isReady(state, true),
  ])
  assert.deepEqual(table, [
    ['ok', true, true],
    ['degraded', true, false],
    ['starting', false, false],
    ['draining', false, false],
  ])
})

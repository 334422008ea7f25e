import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Circuit } from '../../../src/node/events/circuit.ts'

const CALL = { isProbe: false }

function openCircuit(now: number): Circuit {
  const circuit = new Circuit()
  const opened = [1, 2, 3, 4, 5].map(() => circuit.failed(CALL, now))
  assert.deepEqual(opened, [false, false, false, false, true])
  return circuit
}

test('five failures in a row open it, and a success in between counts from the start', () => {
  const circuit = new Circuit()
  for (let i = 0; i < 4; i++) circuit.failed(CALL, 0)
  assert.equal(circuit.succeeded(CALL), false)
  for (let i = 0; i < 4; i++) circuit.failed(CALL, 0)
  assert.deepEqual(circuit.enter(0), CALL)
  assert.equal(circuit.failed(CALL, 0), true)
  assert.equal(circuit.enter(0), undefined)
})

test('after a while one call is let through, and its success closes it', () => {
  const circuit = openCircuit(0)
  assert.equal(circuit.enter(700), undefined)
  assert.deepEqual(circuit.enter(1300), { isProbe: true })
  assert.equal(circuit.enter(1300), undefined)
  assert.equal(circuit.mayEnter(99_999), false)
  assert.equal(circuit.succeeded({ isProbe: true }), true)
  assert.deepEqual(circuit.enter(1300), CALL)
})

test('a probe that fails lets the backend rest for longer each time, up to half a minute', () => {
  const circuit = openCircuit(0)
  let now = 0
  for (let rest = 1000; rest <= 64_000; rest *= 2) {
    const most = Math.min(rest, 30_000)
    assert.equal(circuit.enter(now + most * 0.7), undefined, `${rest}`)
    now += most * 1.3
    assert.deepEqual(circuit.enter(now), { isProbe: true }, `${rest}`)
    assert.equal(circuit.failed({ isProbe: true }, now), false)
  }
})

test('late failures of earlier calls change nothing, and a late success closes it', () => {
  const circuit = openCircuit(0)
  assert.equal(circuit.failed(CALL, 900), false)
  assert.deepEqual(circuit.enter(1300), { isProbe: true })
  assert.equal(circuit.succeeded(CALL), true)
  assert.equal(circuit.failed({ isProbe: true }, 1400), false)
  assert.deepEqual(circuit.enter(1400), CALL)
})

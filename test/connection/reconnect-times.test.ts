import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReconnectTimes } from '../../src/connection/reconnect-times.ts'

test('one alone comes back soon', () => {
  const after = new ReconnectTimes().after(1e6)
  assert.ok(Number.isInteger(after) && after >= 500 && after <= 510, `${after}`)
})

test('those who are closed together come back a hundred a second, also when it takes a while to close them', () => {
  const times = new ReconnectTimes()
  const back = Array.from({ length: 2000 }, (_, i) => 1e6 + i + times.after(1e6 + i))
  for (let from = 1e6 + 500; from < 1e6 + 20_000; from += 1000) {
    const count = back.filter(at => at >= from && at < from + 1000).length
    assert.ok(count >= 98 && count <= 102, `${count} in the second from ${from}`)
  }
})

test('nobody is asked to stay away for more than half a minute', () => {
  const times = new ReconnectTimes()
  const delays = Array.from({ length: 50_000 }, () => times.after(1e6))
  assert.ok(Math.max(...delays) <= 30_010, `${Math.max(...delays)}`)
  assert.ok(Math.min(...delays) >= 500)
})

test('a wave is over when its clients are back', () => {
  const times = new ReconnectTimes()
  for (let i = 0; i < 1000; i++) times.after(1e6)
  const after = times.after(1e6 + 20_000)
  assert.ok(after <= 510, `${after}`)
})

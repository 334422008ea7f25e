import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EarlyMessages } from '../../../src/broker/redis/early-messages.ts'
import { encodeId } from '../../../src/protocol/position.ts'
import { Slice } from '../../../src/protocol/slice.ts'

const MIB = 1024 * 1024

const bare = (text: string) => new Slice(Buffer.from(text.padEnd(MIB)))

const recorded = (seq: number) =>
  new Slice(Buffer.from(`${encodeId('a', seq, `${seq}-0`)} ${seq} -\n{"type":"a"}`.padEnd(MIB)))

function setUp() {
  const log: string[] = []
  const early = new EarlyMessages({
    message: (topic, { memory }) => log.push(`${topic} ${memory.toString('utf8', 0, 2)}`),
    dropped: (topic, { memory }) => log.push(`dropped ${topic} ${memory.toString('utf8', 0, 2)}`),
    overflowed: topic => log.push(`overflowed ${topic}`),
  })
  return { early, log }
}

test('what comes early waits in order; what finds no room is told at once, and its gap after what waited', () => {
  const { early, log } = setUp()
  for (let n = 10; n < 26; n++) early.push('channel:x', bare(`${n}`))
  early.push('channel:x', bare('26'))
  early.push('channel:y', bare('27'))
  assert.deepEqual(log, ['dropped channel:x 26', 'dropped channel:y 27'])
  // It would fit, but it must not come before the gap.
  early.push('channel:x', new Slice(Buffer.alloc(0)))
  assert.equal(log.length, 3)
  log.length = 0
  early.release()
  const waited = Array.from({ length: 16 }, (_, i) => `channel:x ${i + 10}`)
  assert.deepEqual(log, [...waited, 'overflowed channel:x', 'overflowed channel:y'])
  log.length = 0
  early.push('channel:x', bare('28'))
  early.release()
  assert.deepEqual(log, ['channel:x 28'], 'nothing is left of what was before')
})

test('what is recorded is read from the history, and a change of presence shows that it is missing: no gap', () => {
  const { early, log } = setUp()
  for (let n = 10; n < 26; n++) early.push('channel:x', bare(`${n}`))
  early.push('channel:r', recorded(1))
  assert.deepEqual(log, [])
  early.clear()
  early.release()
  assert.deepEqual(log, [], 'the link was lost again: what waited is missed like everything else')
})

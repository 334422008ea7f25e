import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PushReader } from '../../../src/broker/redis/push-reader.ts'
import { ReadAhead } from '../../../src/broker/redis/read-ahead.ts'
import { TopicCache } from '../../../src/broker/redis/topic-cache.ts'
import { until } from '../../helpers/waiting.ts'

/** A connection whose reading can be stopped. */
class FakeSource {
  isPaused = false

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }
}

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`
const message = (payload: string) => Buffer.from(`>3\r\n$7\r\nmessage\r\n${bulk('user:1')}${bulk(payload)}`)

/** Whoever takes a message is busy for `busy` milliseconds with it. */
function readerInto(log: string[], busy = 0): PushReader {
  return new PushReader(new TopicCache(''), {
    message: (_topic, payload) => {
      log.push(payload.view().toString())
      for (const end = performance.now() + busy; performance.now() < end; );
    },
    unsubscribed: () => true,
    other: () => {},
  })
}

test('what comes alone is dealt with at once', () => {
  const log: string[] = []
  const ahead = new ReadAhead()
  ahead.add(new FakeSource(), readerInto(log), message('1'))
  assert.deepEqual(log, ['1'])
  assert.equal(ahead.bytes, 0)
  ahead.clear()
})

test('slow work is cut into slices, in order, also in the middle of a chunk and of a message', async () => {
  const log: string[] = []
  const ahead = new ReadAhead()
  const source = new FakeSource()
  const reader = readerInto(log, 1)
  const all = Buffer.concat(Array.from({ length: 60 }, (_, i) => message(String(i))))
  for (let at = 0; at < all.length; at += 700) ahead.add(source, reader, all.subarray(at, at + 700))
  assert.ok(ahead.bytes > 0, 'other events of the process would have to wait for all of it')
  // Between two slices there is time to look.
  const left = new Set<number>()
  const look = () => left.add(ahead.bytes) && ahead.bytes === 0
  await until(look, () => `${ahead.bytes} bytes are still to be dealt with`)
  assert.ok(left.size >= 3, `${[...left]}`)
  assert.deepEqual(
    log,
    Array.from({ length: 60 }, (_, i) => String(i)),
  )
  ahead.clear()
})

test('what an older link brought comes before what the next one brings', async () => {
  const log: string[] = []
  const ahead = new ReadAhead()
  const old = readerInto(log, 10)
  for (const n of ['1', '2', '3']) ahead.add(new FakeSource(), old, message(n))
  ahead.add(new FakeSource(), readerInto(log), message('4'))
  await until(
    () => ahead.bytes === 0,
    () => `${ahead.bytes} bytes are still to be dealt with`,
  )
  assert.deepEqual(log, ['1', '2', '3', '4'])
  ahead.clear()
})

test('beyond its bound it reads no more, and goes on when half of that is dealt with', async () => {
  const log: string[] = []
  const ahead = new ReadAhead()
  const source = new FakeSource()
  const reader = readerInto(log, 20)
  const large = message('x'.repeat(1024 * 1024))
  let added = 0
  for (; !source.isPaused && added < 1000; added++) ahead.add(source, reader, large)
  assert.ok(source.isPaused)
  assert.ok(ahead.bytes > 128 * 1024 * 1024 && ahead.bytes < 131 * 1024 * 1024)
  ahead.clear()
  assert.equal(source.isPaused, false)
})

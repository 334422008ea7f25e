import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, inflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { Deflater } from '../../src/connection/deflater.ts'
import { directSegment, Segment } from '../../src/connection/queue.ts'

const TRAILER = Buffer.from([0, 0, 0xff, 0xff])

/** Reads frames as RFC 6455 and RFC 7692 say, by code that the project does not use. */
function read(bytes: Buffer): { text: string; isCompressed: boolean; isBinary: boolean }[] {
  const messages: ReturnType<typeof read> = []
  for (let at = 0; at < bytes.length; ) {
    const [first, short] = [bytes[at]!, bytes[at + 1]!]
    assert.equal(first & 0x80, 0x80, 'a whole message')
    assert.equal(short & 0x80, 0, 'not masked')
    const [header, length] =
      short < 126
        ? [2, short]
        : short === 126
          ? [4, bytes.readUInt16BE(at + 2)]
          : [10, Number(bytes.readBigUInt64BE(at + 2))]
    const payload = bytes.subarray(at + header, at + header + length)
    const isCompressed = (first & 0x40) !== 0
    const plain = isCompressed
      ? inflateRawSync(Buffer.concat([payload, TRAILER]), { finishFlush: constants.Z_SYNC_FLUSH })
      : payload
    messages.push({ text: plain.toString(), isCompressed, isBinary: (first & 0x0f) === 2 })
    at += header + length
  }
  return messages
}

test('a message says the same when it is compressed, and is not larger', () => {
  const text = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 3000 }),
    fc.tuple(fc.string(), fc.integer({ min: 0, max: 70_000 })).map(([s, n]) => s.repeat(n).slice(0, 70_000)),
  )
  fc.assert(
    fc.property(text, fc.integer({ min: 64, max: 5000 }), fc.integer({ min: 1, max: 9 }), (text, threshold, level) => {
      const segment = directSegment(text)
      const deflated = new Deflater({ threshold, level }).deflated(segment)
      const [message, ...rest] = read(deflated ?? segment.view())
      assert.equal(message!.text, text)
      assert.equal(rest.length, 0)
      assert.equal(message!.isCompressed, deflated !== undefined)
      if (deflated) assert.ok(deflated.length < segment.bytes)
      if (Buffer.byteLength(text) < threshold) assert.equal(deflated, undefined)
    }),
  )
})

test('of several messages only the large ones are compressed, and all stay in order', () => {
  const texts = ['small', 'x'.repeat(2000), 'also small', JSON.stringify({ a: 'y'.repeat(5000) })]
  const joined = Buffer.concat(texts.map(text => directSegment(text).view()))
  const segment = new Segment({ memory: joined, start: 0, end: joined.length }, undefined, { count: texts.length })
  const messages = read(new Deflater({ threshold: 1000, level: 3 }).deflated(segment)!)
  assert.deepEqual(
    messages.map(({ text }) => text),
    texts,
  )
  assert.deepEqual(
    messages.map(({ isCompressed }) => isCompressed),
    [false, true, false, true],
  )
})

test('a binary message stays one', () => {
  const bytes = new Uint8Array(4000)
  const [message] = read(new Deflater({ threshold: 1000, level: 1 }).deflated(directSegment(bytes))!)
  assert.deepEqual([message!.isBinary, message!.isCompressed, message!.text.length], [true, true, 4000])
})

test('a segment is compressed once, whoever asks', () => {
  const deflater = new Deflater({ threshold: 100, level: 3 })
  const segment = directSegment('z'.repeat(1000))
  assert.equal(deflater.deflated(segment), deflater.deflated(segment))
})

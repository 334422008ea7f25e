import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PushReader } from '../../../src/broker/redis/push-reader.ts'
import { TopicCache } from '../../../src/broker/redis/topic-cache.ts'

type Element = { bytes: Buffer; message?: [string, string] }

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`

function message(mark: string, channel: string, payload: string, kind = 'message'): Element {
  return {
    bytes: Buffer.from(`${mark}3\r\n${bulk(kind)}${bulk(channel)}${bulk(payload)}`),
    message: [channel, payload],
  }
}

/** One that the client did not ask for, unless the channel says so. */
function unsubscribed(mark: string, channel: string): Element {
  const bytes = Buffer.from(`${mark}3\r\n${bulk('sunsubscribe')}${bulk(channel)}:7\r\n`)
  return channel.startsWith(ASKED) ? { bytes } : { bytes, message: [channel, 'unsubscribed'] }
}

const ASKED = 'asked'

/** Texts that look like the protocol, so that only lengths can tell where something ends. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '\r\n', '>3\r\n$7\r\nmessage\r\n$1\r\n', '>3\r\n$8\r\nsmessage\r\n$1\r\n', '$-1\r\n'),
)
const messages = fc
  .tuple(fc.constantFrom('>', '*'), text, text, fc.constantFrom('message', 'smessage'))
  .map(([mark, channel, payload, kind]) => message(mark, channel, payload, kind))
const unsubscriptions = fc
  .tuple(fc.constantFrom('>', '*'), fc.oneof(text, fc.constant(ASKED)))
  .map(([mark, channel]) => unsubscribed(mark, channel))
const leaf = fc.oneof(
  text.map(bulk),
  fc.constantFrom(
    '+OK\r\n',
    ':42\r\n',
    '$-1\r\n',
    '*-1\r\n',
    '_\r\n',
    '#t\r\n',
    ',1.5\r\n',
    '(123\r\n',
    '-ERR no\r\n',
    '=7\r\ntxt:abc\r\n',
  ),
)
const others = fc.oneof(
  leaf,
  fc.array(leaf, { maxLength: 4 }).map(items => `*${items.length}\r\n${items.join('')}`),
  fc.array(leaf, { maxLength: 4 }).map(items => `>${items.length + 1}\r\n${bulk('subscribe')}${items.join('')}`),
  fc.array(fc.tuple(leaf, leaf), { maxLength: 3 }).map(pairs => `%${pairs.length}\r\n${pairs.flat().join('')}`),
)
const elements = fc.array(
  fc.oneof(
    messages,
    unsubscriptions,
    others.map((raw): Element => ({ bytes: Buffer.from(raw) })),
  ),
  { maxLength: 30 },
)

function readAll(chunks: Buffer[]): { log: string[]; other: Buffer } {
  const log: string[] = []
  const rest: Buffer[] = []
  const reader = new PushReader(new TopicCache(''), {
    message: (channel, payload) =>
      log.push(JSON.stringify([channel, payload.view().toString(), Buffer.concat(rest).length])),
    unsubscribed(channel) {
      if (channel.startsWith(ASKED)) return false
      log.push(JSON.stringify([channel, 'unsubscribed', Buffer.concat(rest).length]))
      return true
    },
    other: bytes => rest.push(Buffer.from(bytes)),
  })
  for (const chunk of chunks) reader.write(chunk)
  return { log, other: Buffer.concat(rest) }
}

test('messages come out whole and in order, everything else is handed on untouched, however the bytes are cut', () => {
  fc.assert(
    fc.property(elements, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (list, sizes) => {
      const bytes = Buffer.concat(list.map(element => element.bytes))
      const chunks: Buffer[] = []
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length]!
        chunks.push(bytes.subarray(at, at + size))
        at += size
      }
      const expected: string[] = []
      const other: Buffer[] = []
      for (const element of list) {
        if (element.message) expected.push(JSON.stringify([...element.message, Buffer.concat(other).length]))
        else other.push(element.bytes)
      }
      const read = readAll(chunks)
      assert.deepEqual(read.log, expected)
      assert.ok(read.other.equals(Buffer.concat(other)))
    }),
    { numRuns: 500 },
  )
})

test('what is no RESP is left to the decoder of the client, from there on', () => {
  const bytes = Buffer.concat([message('>', 'a', 'b').bytes, Buffer.from('what?\r\n'), message('>', 'c', 'd').bytes])
  const { log, other } = readAll([bytes, Buffer.from('+OK\r\n')])
  assert.deepEqual(log, ['["a","b",0]'])
  assert.equal(other.toString(), `what?\r\n${message('>', 'c', 'd').bytes}+OK\r\n`)
})

test('a large message is not copied once for every chunk of it', () => {
  const large = message('>', 'channel', 'x'.repeat(5_000_000)).bytes
  const chunks = Array.from({ length: Math.ceil(large.length / 65536) }, (_, i) =>
    large.subarray(i * 65536, (i + 1) * 65536),
  )
  const { log } = readAll(chunks)
  assert.equal(log.length, 1)
})

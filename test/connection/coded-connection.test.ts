import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BufferPool } from '../../src/connection/buffer-pool.ts'
import { createConnection } from '../../src/connection/coded-connection.ts'
import { codedSegment } from '../../src/connection/coded-segment.ts'
import type { Connection } from '../../src/connection/connection.ts'
import { encodeFrame } from '../../src/connection/frame.ts'
import { directSegment, gapSegment, Segment } from '../../src/connection/queue.ts'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { encodePublication } from '../../src/protocol/messages.ts'
import { FakeTransport, messagesIn, published, WELCOME, writeQueueOf } from '../helpers/connection.ts'

const IDENTITY = { user: '42', data: undefined, info: '', allow: [], expires: undefined, began: 0 }

let ids = 0
function open(node: ReturnType<typeof writeQueueOf>, codec?: Codec) {
  const transport = new FakeTransport()
  const connection = createConnection({ ...IDENTITY, id: `c${++ids}` }, { transport, codec }, node.writeQueue)
  connection.open(WELCOME)
  return { connection, transport }
}

/** What was written, read as the client reads it. */
function read(transport: FakeTransport, codec: Codec) {
  return messagesIn(Buffer.concat(transport.writes)).map(message => {
    assert.ok(typeof message !== 'string', `a text: ${message}`)
    return codec.decodeMessage(message) as { type: string; payload: Record<string, unknown> }
  })
}

const recoded = (node: ReturnType<typeof writeQueueOf>, codec: Codec) =>
  node.metrics.snapshot()[`messages_recoded_total{${codec.name}}`] ?? 0

/** A run of publications, as recorded ones follow each other. */
function run(topic: 'channel:a', payloads: readonly string[]): Segment {
  const frames = payloads.map((payload, i) =>
    encodeFrame(encodePublication(topic, 'a', payload, { id: `t.${i}.1-0`, seq: i })),
  )
  const memory = Buffer.concat(frames.map(frame => frame.memory.subarray(frame.start, frame.end)))
  return new Segment({ memory, start: 0, end: memory.length }, topic, {
    count: payloads.length,
    position: { id: `t.${payloads.length - 1}.1-0`, seq: payloads.length - 1 },
  })
}

test('each connection gets everything in its codec, and each codec writes a message once', () => {
  const node = writeQueueOf()
  const json = open(node)
  const others = [msgpack, msgpack, protobuf, protobuf, protobuf].map(codec => ({ ...open(node, codec), codec }))
  const welcomes = [recoded(node, msgpack), recoded(node, protobuf)]
  const segment = run('channel:a', ['{"n":1}', '{"n":2}', '{"is":{"$binary":"AP8="}}'])
  const all: { connection: Connection }[] = [json, ...others]
  for (const { connection } of all) assert.ok(connection.give(segment))
  for (const { connection } of all) connection.gap(['channel:a'], 'overload')
  node.flush()
  assert.deepEqual([recoded(node, msgpack) - welcomes[0]!, recoded(node, protobuf) - welcomes[1]!], [3 + 2, 3 + 3])
  const expected = json.transport.messages.map(({ type, payload }) => ({ type, payload }))
  assert.equal(expected.length, 5)
  for (const { transport, codec } of others) {
    const messages = read(transport, codec)
    assert.deepEqual(Uint8Array.from(messages[3]!.payload.is as Uint8Array), Uint8Array.of(0, 255))
    messages[3]!.payload = { is: { $binary: 'AP8=' } }
    assert.deepEqual(
      messages.map(({ type, payload }) => ({ type, payload })),
      expected,
    )
  }
})

test('a message for all is the same to the byte for all that share a codec, and in one memory', () => {
  const node = writeQueueOf()
  const segment = published('channel:a', 1)
  const coded = codedSegment(segment, msgpack, () => {})
  assert.equal(
    codedSegment(segment, msgpack, () => assert.fail('written again')),
    coded,
  )
  assert.notEqual(
    codedSegment(segment, protobuf, () => {}),
    coded,
  )
  const [one, other] = [open(node, msgpack), open(node, msgpack)]
  for (const { connection } of [one, other]) connection.push(segment)
  node.flush()
  assert.equal(one.transport.memories.at(-1), other.transport.memories.at(-1))
})

test('the same messages: topic, number and place stay, also of a gap', () => {
  const segment = run('channel:a', ['1', '2', '3'])
  const coded = codedSegment(segment, msgpack, () => {})
  assert.deepEqual([coded.topic, coded.count, coded.position], ['channel:a', 3, segment.position])
  const rest = coded.after({ id: 't.0.1-0', seq: 0 })
  const texts = messagesIn(Buffer.concat(rest.chunks(new BufferPool())))
  assert.deepEqual(
    texts.map(bytes => (msgpack.decodeMessage(bytes as Buffer) as { payload: unknown }).payload),
    [2, 3],
  )
  const gap = codedSegment(gapSegment(['channel:a', 'all'], 'overload'), protobuf, () => {})
  assert.deepEqual([gap.topics, gap.count], [['channel:a', 'all'], 0])
})

test('a tail holds JSON, so a connection with a codec has none', () => {
  const node = writeQueueOf()
  const [json, coded] = [open(node), open(node, msgpack)]
  node.flush()
  assert.deepEqual([json.connection.takesTail('channel:a'), coded.connection.takesTail('channel:a')], [true, false])
})

for (const codec of [msgpack, protobuf]) {
  const DEEP = `${'['.repeat(150)}1${']'.repeat(150)}`

  test(`${codec.name}: what cannot be written is a gap in its place, and the rest comes`, () => {
    const node = writeQueueOf({ buffer: 1e6 })
    const { connection, transport } = open(node, codec)
    connection.push(run('channel:a', ['1', DEEP, '{"__proto__":1}', '4']))
    connection.push(new Segment(encodeFrame(encodePublication('channel:b', 'a', DEEP, {})), 'channel:b'))
    node.flush()
    const [, first, deep, key, last, unnumbered] = read(transport, codec)
    assert.deepEqual([first!.payload, last!.payload], [1, 4])
    const positions = (i: number) => ({ 'channel:a': { id: `t.${i}.1-0`, seq: i } })
    assert.deepEqual(deep!.payload, { topics: ['channel:a'], reason: 'rejected', positions: positions(1) })
    assert.deepEqual(key!.payload, { topics: ['channel:a'], reason: 'rejected', positions: positions(2) })
    assert.deepEqual(unnumbered!.payload, { topics: ['channel:b'], reason: 'rejected' })
    assert.equal(node.metrics.snapshot()[`publications_unwritable_total{${codec.name}}`], 3)
  })

  test(`${codec.name}: a reply that cannot be written is an error with its ref`, () => {
    const node = writeQueueOf({ buffer: 1e6 })
    const { connection, transport } = open(node, codec)
    connection.reply('reply', JSON.parse(DEEP), 7)
    node.flush()
    const [, error] = read(transport, codec) as {
      type: string
      payload: { code: string; message: string }
      ref?: number
    }[]
    assert.deepEqual([error!.type, error!.payload.code, error!.ref], ['error', 'PUSH_ERR_UNWRITABLE', 7])
    assert.match(
      error!.payload.message,
      new RegExp(`the type "reply" cannot be written in ${codec.protocol}: .*100 deep`),
    )
    assert.equal(node.metrics.snapshot()[`publications_unwritable_total{${codec.name}}`], undefined)
  })

  test(`${codec.name}: half a character becomes U+FFFD, and an escape is the character`, () => {
    const node = writeQueueOf()
    const { connection, transport } = open(node, codec)
    connection.push(directSegment('{"type":"a","payload":["\\ud83d","\\u00e9","\\ud83d\\ude00"]}'))
    node.flush()
    assert.deepEqual(read(transport, codec)[1]!.payload, ['\ufffd', 'é', '😀'])
  })

  test(`${codec.name}: bytes are a message of their own`, () => {
    const node = writeQueueOf()
    const { connection, transport } = open(node, codec)
    connection.sendBinary(Uint8Array.of(1, 2, 3))
    node.flush()
    const [, { type, payload }] = read(transport, codec) as unknown as [unknown, { type: string; payload: Uint8Array }]
    assert.deepEqual([type, [...payload]], ['push.binary', [1, 2, 3]])
  })

  test(`${codec.name}: who reads too slowly is told so in its codec`, () => {
    const node = writeQueueOf({ slowConsumer: 'drop', buffer: 300 })
    const { connection, transport } = open(node, codec)
    transport.room = 0
    connection.push(published('channel:a', 1))
    node.flush()
    for (let i = 2; i < 20; i++) connection.push(published('channel:a', i))
    node.outlast()
    transport.drain()
    const types = read(transport, codec).map(({ type }) => type)
    assert.deepEqual(types, ['welcome', 'a', 'gap'])
    assert.deepEqual(read(transport, codec).at(-1)!.payload, { topics: ['channel:a'], reason: 'slow_consumer' })
    const cut = open(writeQueueOf(), codec)
    cut.connection.cut()
    assert.deepEqual(
      read(cut.transport, codec).map(({ type }) => type),
      ['welcome', 'reconnect'],
    )
    assert.equal(cut.transport.closed!.code, 4503)
  })
}

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { encode } from '@msgpack/msgpack'
import type { Codec } from '../src/protocol/codecs/codec.ts'
import { msgpack } from '../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../src/protocol/codecs/protobuf.ts'
import { createPublisher, type ScriptPublisher } from '../src/publisher.ts'
import { type Client, type NodeProcess, startNode } from './helpers/nodes.ts'
import { cleanups } from './helpers/processes.ts'
import { type RedisServer, startRedis } from './helpers/redis.ts'
import { PATIENCE, until } from './helpers/waiting.ts'

/** Two nodes, one Redis, and clients of every codec on both; channels keep the tests apart. */
const all = cleanups()
const CODECS: (Codec | undefined)[] = [undefined, msgpack, protobuf]
let redis: RedisServer
let nodes: [NodeProcess, NodeProcess]
let publisher: ScriptPublisher

before(async () => {
  redis = await startRedis(all)
  nodes = await Promise.all([startNode(all, redis.url), startNode(all, redis.url)])
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
})

after(() => all.end())

/** A client of each codec on each node. */
function everywhere(path: string): Promise<Client[]> {
  return Promise.all(nodes.flatMap(node => CODECS.map(codec => node.connect(path, codec))))
}

/** Bytes as they are where there are any, and as their form in JSON. */
function uniform(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $binary: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(uniform)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, uniform(item)]))
}

const recoded = async () => {
  const counts = await Promise.all(nodes.map(async node => (await node.status()).metrics))
  return counts.map(metrics => [
    metrics['messages_recoded_total{msgpack}'] ?? 0,
    metrics['messages_recoded_total{protobuf}'] ?? 0,
  ])
}

test('one publication reaches clients of all codecs on all nodes, written once for each codec', async () => {
  const clients = await everywhere('/ws/mixed1')
  const more = await nodes[0].connect('/ws/mixed1', msgpack)
  const payload = { text: 'ünï', n: -1.5, list: [], is: Uint8Array.of(0, 255) }
  const before = await recoded()
  const result = await publisher.publish('channel:mixed1', { type: 'notice', payload, receipt: true })
  assert.deepEqual([result.nodes, result.delivered, result.complete], [2, 7, true])
  for (const client of [...clients, more]) {
    assert.deepEqual(uniform(await client.next('notice')), {
      type: 'notice',
      payload: uniform(payload),
      topic: 'channel:mixed1',
    })
  }
  const after = await recoded()
  assert.deepEqual(
    after.map((counts, node) => counts.map((count, i) => count - before[node]![i]!)),
    [
      [1, 1],
      [1, 1],
    ],
  )
})

test('an envelope in MessagePack is like one in JSON, whoever writes it', async () => {
  const clients = await everywhere('/ws/mixed2?user=7')
  const expected = {
    type: 'notice',
    payload: { text: 'hi', is: { $binary: 'AAE=' }, no: null },
    topic: 'channel:mixed2',
    from: { user: null },
  }
  const payload = { text: 'hi', is: Uint8Array.of(0, 1), no: null }
  const envelope = Buffer.from(encode({ type: 'notice', payload, from: { user: null }, 'x-own': 1 }))
  assert.equal(await redis.admin.publish('push:channel:mixed2', envelope), 2)
  for (const client of clients) assert.deepEqual(uniform(await client.next('notice')), expected)
  const skipping = { type: 'notice', except: 'user:7', receipt: 'packed1' }
  await redis.admin.publish('push:channel:mixed2', Buffer.from(encode(skipping)))
  for (let i = 0; i < 2; i++) {
    const [, answer] = (await redis.admin.blpop('push:receipt:packed1', 60))!
    const { delivered, skipped, reasons } = JSON.parse(answer)
    assert.deepEqual([delivered, skipped, reasons], [0, 3, { except: 3 }])
  }
  let reports: { publications: { type: string; delivered: number }[] }[] = []
  // A node that needs more than a second to answer is missing.
  const isComplete = async () => {
    const { body } = await nodes[0].call('/push/explain?topic=channel:mixed2')
    reports = body.nodes as typeof reports
    return body.complete
  }
  await until(isComplete, 'the answers of both nodes')
  assert.deepEqual(
    reports.map(({ publications }) => publications.map(({ type, delivered }) => `${type} ${delivered}`)),
    [
      ['notice 0', 'notice 3'],
      ['notice 0', 'notice 3'],
    ],
  )
  // As a shell would write it: a map of one, the key of four letters, the text of four.
  await redis.admin.publish('push:user:7', Buffer.from('\x81\xa4type\xa4bare', 'latin1'))
  for (const client of clients)
    assert.deepEqual(await client.next('bare'), { type: 'bare', payload: {}, topic: 'user:7' })
  await redis.admin.publish('push:user:7', Buffer.from(encode({ control: 'close', code: 4000, reason: 'packed' })))
  for (const client of clients) assert.deepEqual(await client.closed, { code: 4000, reason: 'packed' })
})

test('an envelope in MessagePack that cannot be used is rejected with a reason, and the next one comes', async () => {
  const clients = await everywhere('/ws/mixed3')
  const broken: [bytes: Buffer, message: RegExp][] = [
    [Buffer.from([0x82, 0xa4]), /^the envelope is MessagePack that cannot be used: it ends too early$/],
    [Buffer.from(encode({ type: 'a', payload: new Date(0) })), /an extension type, such as a timestamp/],
    [Buffer.from([0x81, 0x01, 0x02]), /a key that is not a text/],
    [Buffer.from(encode({ type: 'a', payload: NaN })), /not finite/],
    [Buffer.from(encode({ type: 'a', excpet: 'user:1' })), /^unknown key "excpet": did you mean "except"\?$/],
    [Buffer.from(encode({ type: 'welcome' })), /reserved/],
    [Buffer.from(encode({ type: 'order', payload: { id: 'x' } })), /payload\.id/],
    [Buffer.from(encode({ type: 'a', payload: Buffer.alloc(250_000) })), /limits\.publication allows 262144/],
  ]
  for (const [bytes, message] of broken) {
    await redis.admin.publish('push:channel:mixed3', bytes)
    await redis.admin.publish('push:channel:mixed3', Buffer.from(encode({ type: 'next' })))
    for (const client of clients) assert.equal((await client.next('next')).type, 'next')
    // One of each node, the second of which may come later.
    for (let i = 0; i < nodes.length; i++) {
      const note = JSON.parse((await redis.admin.blpop('push:rejected', 60))![1])
      assert.match(note.message, message)
    }
  }
})

test('what is recorded is recovered in every codec, also what was written in MessagePack', async () => {
  const path = '/ws/chat.packed'
  const channel = 'push:channel:chat.packed'
  const first = await everywhere(path)
  const record = (envelope: string | Buffer) =>
    redis.admin.call('FCALL', 'push_publish', 1, channel, envelope, 100, 60) as Promise<[id: string, seq: number]>
  const [since] = await record(JSON.stringify({ type: 'a', payload: 1 }))
  for (const client of first) assert.equal((await client.next('a')).id, since)
  const packed = Buffer.from(encode({ type: 'a', payload: { is: Uint8Array.of(7) }, from: { user: null } }))
  await record(packed)
  await record(JSON.stringify({ type: 'a', payload: { is: { $binary: 'CA==' } } }))
  await record(JSON.stringify({ type: 'a', payload: JSON.parse(`${'['.repeat(150)}${']'.repeat(150)}`) }))
  const [last] = await record(Buffer.from(encode({ type: 'a', payload: 'last' })))
  const back = await Promise.all(
    nodes.flatMap(node =>
      CODECS.map(codec =>
        node.connect(`${path}?since=${encodeURIComponent(JSON.stringify({ 'channel:chat.packed': since }))}`, codec),
      ),
    ),
  )
  for (const [i, client] of [...first, ...back].entries()) {
    const codec = CODECS[i % CODECS.length]
    const messages = [await client.next('a'), await client.next('a')]
    assert.deepEqual(
      messages.map(({ payload, seq, from }) => uniform({ payload, seq, from })),
      [
        { payload: { is: { $binary: 'Bw==' } }, seq: 2, from: { user: null } },
        { payload: { is: { $binary: 'CA==' } }, seq: 3, from: undefined },
      ],
    )
    if (codec) {
      const { payload } = (await client.next('gap')) as {
        payload: { reason: string; positions: Record<string, { seq: number }> }
      }
      assert.deepEqual([payload.reason, payload.positions['channel:chat.packed']!.seq], ['rejected', 4])
    } else assert.equal((await client.next('a')).seq, 4)
    const { payload, id } = await client.next('a')
    assert.deepEqual([payload, id], ['last', last])
  }
  const { body } = await nodes[0].call('/push/history?topic=channel:chat.packed')
  const { messages } = body as { messages: { payload: unknown }[] }
  assert.deepEqual(
    [messages.length, messages[1]!.payload, messages.at(-1)!.payload],
    [5, { is: { $binary: 'Bw==' } }, 'last'],
  )
})

test('a client of one codec publishes for those of the others', async () => {
  const clients = await everywhere('/ws/chat.talk?user=9')
  for (const [i, client] of clients.entries()) {
    client.send('push.publish', { topic: 'channel:chat.talk', type: 'said', payload: { text: `number ${i}` } }, i)
    for (const other of clients) {
      const { payload, from } = await other.next('said')
      assert.deepEqual([payload, from], [{ text: `number ${i}` }, { user: '9' }])
    }
    assert.equal((await client.next('push.published')).ref, i)
  }
})

import assert from 'node:assert/strict'
import { createServer, get, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { encodeFrame } from '../../src/connection/frame.ts'
import { directSegment, gapSegment, type Queue, queueWith, Segment } from '../../src/connection/queue.ts'
import { eventsOf } from '../../src/connection/stream-events.ts'
import { type Step, StreamPositions, stepsOf } from '../../src/connection/stream-positions.ts'
import { StreamTransport } from '../../src/connection/stream-transport.ts'
import { Tail } from '../../src/connection/tail.ts'
import { partBytes } from '../../src/connection/transport.ts'
import { decodeEventId } from '../../src/protocol/event-id.ts'
import { encodeMessage, encodeOrigin, encodePublication } from '../../src/protocol/messages.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { EventReader } from '../helpers/event-stream.ts'
import { Inbox, once, until } from '../helpers/waiting.ts'

const idOf = (seq: number) => `t.${seq}.1-0`

function recorded(topic: Topic, seq: number, payload = '1'): Segment {
  const position = { id: idOf(seq), seq }
  return new Segment(encodeFrame(encodePublication(topic, 'a', payload, position)), topic, { position })
}

function queueOf(...segments: Segment[]): Queue {
  return segments.reduce<Queue | undefined>((queue, segment) => queueWith(queue, segment), undefined)!
}

const sinceOf = (id: string) => Object.fromEntries(decodeEventId(id).since)

/** A stream between two ends of this process. */
async function setUp(t: TestContext, since: [Topic, string][] = []) {
  const responses = new Inbox<ServerResponse>('a request')
  const server = createServer((_request, response) => responses.put(response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false })
  request.on('error', () => {})
  const response = await responses.take()
  response.on('error', () => {})
  response.writeHead(200)
  response.flushHeaders()
  const [incoming] = await once(request, 'response')
  const reader = new EventReader(incoming)
  const transport = new StreamTransport(response, new StreamPositions(new Map(since)))
  const write = (...segments: Segment[]) => {
    for (const part of transport.parts(queueOf(...segments))) transport.write(part)
  }
  return { transport, reader, response, write }
}

test('each message is one event with the text of the WebSocket, and the last of a write has the id', async t => {
  const { reader, write } = await setUp(t)
  const texts = [1, 2, 3].map(seq => encodePublication('channel:a', 'a', `{"n":${seq}}`, { id: idOf(seq), seq }))
  write(recorded('channel:a', 1, '{"n":1}'), recorded('channel:a', 2, '{"n":2}'), recorded('channel:a', 3, '{"n":3}'))
  for (const text of texts) assert.deepEqual(await reader.events.take(), { event: 'message', data: text })
  assert.deepEqual(sinceOf(reader.lastEventId), { 'channel:a': idOf(3) })
  assert.equal(reader.text.match(/^id: /gm)?.length, 1)
  assert.ok(reader.text.lastIndexOf('\nid: ') > reader.text.lastIndexOf('"n":2'))
})

test('without a new position there is no id, and an old one stays', async t => {
  const { reader, write } = await setUp(t, [['channel:a', idOf(7)]])
  write(new Segment(encodeFrame(encodePublication('channel:b', 'b', '1', {})), 'channel:b'))
  await reader.events.take()
  assert.doesNotMatch(reader.text, /^id:/m)
  write(recorded('channel:b', 1))
  await reader.events.take()
  assert.deepEqual(sinceOf(reader.lastEventId), { 'channel:a': idOf(7), 'channel:b': idOf(1) })
})

test('streams share the events of a segment, also when it has grown meanwhile', () => {
  const first = encodeFrame(encodePublication('channel:a', 'a', '1', {}))
  const segment = new Segment(first, 'channel:a')
  const events = eventsOf(segment)
  assert.equal(eventsOf(segment), events)
  const next = encodeFrame(encodePublication('channel:a', 'a', '2', {}))
  assert.equal(next.start, first.end, 'frames are built side by side')
  assert.ok(segment.extend(next))
  const grown = eventsOf(segment)
  assert.equal(grown.bytes.toString().match(/^data: /gm)?.length, 2)
  assert.equal(grown.bytes.toString('utf8', grown.last).match(/^data: .*"payload":2/m)?.length, 1)
})

test('property: any message stays one line of data, and the same JSON', () => {
  const space = fc.stringMatching(/^[ \t\r\n]{0,4}$/)
  fc.assert(
    fc.property(fc.jsonValue(), space, space, (value, before, after) => {
      const json = `{${before}"type":"a",${after}"payload":${JSON.stringify(value)}${before}}`
      const text = eventsOf(directSegment(json)).bytes.toString()
      const [, data] = /^data: (.*)\n\n$/.exec(text)!
      assert.doesNotMatch(data!, /\r/)
      assert.deepEqual(JSON.parse(data!), JSON.parse(json))
      if (!/[\r\n]/.test(before + after)) assert.equal(data, json)
    }),
  )
})

const PUBLISHED = fc.record({
  topic: fc.constantFrom<Topic>('channel:a', 'channel:b', 'user:c'),
  space: fc.stringMatching(/^[ \t\r\n]{0,4}$/),
  size: fc.nat(300),
  seq: fc.option(fc.nat(1000), { nil: undefined }),
})

test('property: what is shared with others becomes the same events, and the same positions, as each message alone', () => {
  fc.assert(
    fc.property(fc.array(PUBLISHED, { minLength: 1, maxLength: 20 }), published => {
      const tail = Tail.begin()!
      const alone = published.map(({ topic, space, size, seq }) => {
        const position = seq === undefined ? undefined : { id: idOf(seq), seq }
        const text = `{"type":"a",${space}"payload":"${'x'.repeat(size)}"${space}${encodeOrigin(topic, position ?? {})}`
        const frame = encodeFrame(text)
        const at = tail.reserve(frame.end - frame.start, topic, position)!
        tail.memory.set(frame.memory.subarray(frame.start, frame.end), at)
        return eventsOf(directSegment(text))
      })
      const { bytes, last, steps } = eventsOf(tail)
      assert.equal(bytes.toString(), alone.map(events => events.bytes.toString()).join(''))
      assert.equal(last, bytes.length - alone.at(-1)!.bytes.length)
      const [positions, each] = [new StreamPositions(new Map()), new StreamPositions(new Map())]
      positions.take(steps)
      for (const events of alone) each.take(events.steps)
      assert.deepEqual(sinceOf(positions.id), sinceOf(each.id))
      tail.giveBackUnheld()
    }),
  )
})

test('a binary message is base64, a reconnect says when to an EventSource as well', () => {
  const bytes = Buffer.from([0, 10, 13, 255])
  assert.equal(eventsOf(directSegment(bytes)).bytes.toString(), `event: binary\ndata: ${bytes.toString('base64')}\n\n`)
  const reconnect = encodeMessage('reconnect', { after: 1234 })
  assert.equal(eventsOf(directSegment(reconnect)).bytes.toString(), `retry: 1234\ndata: ${reconnect}\n\n`)
})

test('a large queue is written in portions that say how much of the queue they are', async t => {
  const { transport } = await setUp(t)
  const segments = Array.from({ length: 10 }, (_, i) => recorded('channel:a', i + 1, `"${'x'.repeat(20_000)}"`))
  const queue = queueOf(...segments)
  const parts = transport.parts(queue)
  assert.ok(parts.length >= 3)
  assert.equal(
    parts.reduce((sum, part) => sum + partBytes(part), 0),
    queue.bytes,
  )
})

test('the end is an event with code and reason, once, and nothing follows', async t => {
  const { transport, reader, write } = await setUp(t)
  transport.close(1012, 'restart')
  transport.close(4500, 'again')
  transport.ping()
  write(recorded('channel:a', 1))
  assert.deepEqual(await reader.closed(), { code: 1012, reason: 'restart' })
  assert.equal(reader.events.size, 0)
  await until(() => transport.closed, 'the end was read')
  assert.deepEqual(transport.closed, { code: 1012, reason: 'restart' })
})

test('what the kernel takes is a sign of life, comments too; terminate() cuts the stream off', async t => {
  const { transport, reader } = await setUp(t)
  const before = transport.received
  transport.ping()
  await reader.commented(1)
  assert.ok(transport.received > before)
  assert.equal(transport.buffered, 0)
  transport.terminate()
  await reader.ended
  assert.equal(transport.closed, undefined)
})

test('property: the position of a client is never ahead of what it was sent or told to be lost', () => {
  const topics = ['channel:a', 'channel:b', 'user:1'] as const
  const topic = fc.constantFrom<Topic>(...topics)
  const step = fc.record({
    topic,
    what: fc.constantFrom<Step['what']>('message', 'head', 'lost', 'gap', 'left'),
    n: fc.nat(50),
    hasId: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.array(fc.tuple(topic, fc.nat(50).map(idOf))), (steps, since) => {
      const positions = new StreamPositions(new Map(since))
      const held = new Map<Topic, string>(since)
      const next = new Map<Topic, string>()
      for (const { topic, what, n, hasId } of steps) {
        const id = what === 'gap' && !hasId ? undefined : what === 'left' ? undefined : idOf(n)
        const before = positions.id
        const isChanged = positions.take([{ topic, what, id }])
        if (what === 'message') held.set(topic, id!)
        if (what === 'head' && !held.has(topic)) held.set(topic, id!)
        if (what === 'gap' && (id ?? next.get(topic))) held.set(topic, (id ?? next.get(topic))!)
        if (what === 'left') held.delete(topic)
        if (what === 'lost') next.set(topic, id!)
        else if (what !== 'head') next.delete(topic)
        assert.deepEqual(sinceOf(positions.id), Object.fromEntries(held))
        if (isChanged) assert.notEqual(positions.id, before)
      }
    }),
  )
})

test('what each message of the server does to positions', () => {
  const a: Topic = 'channel:a'
  const steps = (type: string, payload: unknown) => stepsOf(JSON.parse(encodeMessage(type, payload)))
  assert.deepEqual(steps('welcome', { topics: { [a]: { id: 'i', seq: 1 }, all: {} } }), [
    { topic: a, what: 'head', id: 'i' },
  ])
  assert.deepEqual(steps('welcome', { topics: { [a]: { id: 'i', seq: 1, recovered: true } } }), [])
  assert.deepEqual(steps('subscribed', { topic: a, id: 'i', seq: 1, recovered: false }), [
    { topic: a, what: 'lost', id: 'i' },
  ])
  assert.deepEqual(steps('unsubscribed', { topic: a }), [{ topic: a, what: 'left' }])
  const gap = gapSegment([a, 'all'], 'history_trimmed', { [a]: { id: 'i', seq: 3 } })
  assert.deepEqual(eventsOf(gap).steps, [
    { topic: a, what: 'gap', id: 'i' },
    { topic: 'all', what: 'gap', id: undefined },
  ])
  assert.deepEqual(steps('reply', { topic: a, id: 'i' }), [])
  // A topic has a text, which an object need not have.
  const odd = { toString: 1, valueOf: 1 }
  assert.deepEqual(steps('gap', { topics: [odd, a], positions: { [a]: odd } }), [
    { topic: a, what: 'gap', id: undefined },
  ])
  assert.deepEqual(steps('unsubscribed', { topic: odd }), [])
  assert.equal(
    String(eventsOf(directSegment(encodeMessage('reconnect', { after: odd }))).bytes).split('\n')[0],
    'retry: 0',
  )
})

test('property: whatever a message looks like, nothing is thrown', () => {
  const key = fc.constantFrom(
    'type',
    'payload',
    'topic',
    'id',
    'topics',
    'positions',
    'recovered',
    'toString',
    'valueOf',
  )
  const { message } = fc.letrec(tie => ({
    message: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom('welcome', 'subscribed', 'gap', 'unsubscribed', 'channel:a', null, true, 7),
      fc.dictionary(key, tie('message')),
      fc.array(tie('message')),
    ),
  }))
  fc.assert(fc.property(message, value => void stepsOf(value)))
})

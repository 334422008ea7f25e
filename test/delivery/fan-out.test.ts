import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NodeAnswer } from '../../src/broker/broker.ts'
import { createConnection } from '../../src/connection/coded-connection.ts'
import type { Connection } from '../../src/connection/connection.ts'
import { type Group, Registry } from '../../src/connection/registry.ts'
import { Tail } from '../../src/connection/tail.ts'
import { Acknowledgements } from '../../src/delivery/acks.ts'
import { Decoder } from '../../src/delivery/decoder.ts'
import { Delivery } from '../../src/delivery/delivery.ts'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { Slice } from '../../src/protocol/slice.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { HistoryRules } from '../../src/publish/history-rules.ts'
import { SchemaTable } from '../../src/publish/schemas.ts'
import { FakeTransport, messagesIn, numbersIn, WELCOME, writeQueueOf } from '../helpers/connection.ts'
import { until } from '../helpers/waiting.ts'

const OVERLOADED = {
  delivered: 0,
  skipped: 0,
  rejected: { reason: 'overload', message: 'more came in than this node could deal with' },
}

/** A node without a broker: what is received goes to connections whose sockets the test plays. */
function setUpNode(nodeBuffer = 1e6) {
  const { writeQueue, metrics, flush } = writeQueueOf({ buffer: 200_000, nodeBuffer })
  const registry = new Registry<Connection>()
  const answers: { token: string; answer: Omit<NodeAnswer, 'node'> }[] = []
  const broker = {
    answer: (_incoming: unknown, token: string, answer: Omit<NodeAnswer, 'node'>) =>
      void answers.push({ token, answer }),
    note: () => {},
    backlog: 0,
  }
  const failed = (error: unknown) => assert.fail(String(error))
  const decoder = new Decoder(new SchemaTable({}), 1e6, failed)
  const acks = new Acknowledgements<Connection>(1000)
  const delivery = new Delivery(
    { registry, writeQueue, decoder, acks, metrics, broker, rules: new HistoryRules(), limits: { nodeBuffer } },
    {
      rejected: () => assert.fail('rejected'),
      presence: () => assert.fail('no presence'),
      control: async () => 0,
      failed,
    },
  )
  const connect = (id: string, topics: readonly Topic[], codec?: Codec) => {
    const transport = new FakeTransport()
    const identity = { id, user: null, data: null, info: '', allow: [], expires: undefined, began: 0 }
    const connection = createConnection(identity, { transport, codec }, writeQueue)
    registry.add(connection)
    for (const topic of topics) registry.join(connection, topic)
    connection.open(WELCOME)
    return { connection, transport }
  }
  const publish = (topic: Topic, payload: unknown, more = '') => {
    const envelope = new Slice(Buffer.from(`{"type":"a","payload":${JSON.stringify(payload)}${more}}`))
    delivery.receive({ topic, envelope, sharers: 1 })
  }
  const receive = (topic: Topic, envelope: string) =>
    delivery.receive({ topic, envelope: new Slice(Buffer.from(envelope)), sharers: 1 })
  /** What has gathered is given to its connections. */
  const settle = () => delivery.lost('broker_link', new Map())
  return { registry, delivery, metrics, flush, connect, publish, receive, settle, answers }
}

function messagesOf(transport: FakeTransport, codec: Codec | undefined): FakeTransport['messages'] {
  if (!codec) return transport.messages
  return messagesIn(Buffer.concat(transport.writes)).map(bytes => codec.decodeMessage(bytes as Buffer) as never)
}

const TOPICS: Topic[] = ['channel:a', 'channel:b', 'channel:c', 'channel:d']

const action = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ to: fc.constantFrom<Topic>('all', ...TOPICS), size: fc.constantFrom(0, 10, 900, 3000) }),
  },
  // More than the memory of a tail.
  {
    weight: 1,
    arbitrary: fc.record({ to: fc.constantFrom(...TOPICS), size: fc.constant(900), times: fc.constant(80) }),
  },
  { weight: 2, arbitrary: fc.record({ flushed: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ told: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ stalled: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ drained: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ except: fc.constantFrom(...TOPICS) }) },
  { weight: 1, arbitrary: fc.record({ isAllFlushed: fc.constant(true) }) },
  { weight: 1, arbitrary: fc.record({ joining: fc.nat(7), topic: fc.constantFrom(...TOPICS) }) },
  { weight: 1, arbitrary: fc.record({ leaving: fc.nat(7), topic: fc.constantFrom(...TOPICS) }) },
  { weight: 1, arbitrary: fc.record({ withheld: fc.nat(7), topic: fc.constantFrom(...TOPICS) }) },
  { weight: 1, arbitrary: fc.record({ opened: fc.nat(7), topic: fc.constantFrom(...TOPICS) }) },
)

test('property: every connection gets what its topics get, in order and nothing else, whoever shares what with whom', t => {
  // The clock stands still: a machine that pauses for a while would have a gap told in slices, and what follows wait.
  t.mock.method(performance, 'now', () => 0)
  const memberships = fc.array(fc.subarray(TOPICS), { minLength: 8, maxLength: 8 })
  const spoken = fc.oneof(
    fc.constant<(Codec | undefined)[]>([]),
    fc.array(fc.constantFrom(undefined, undefined, msgpack, protobuf), { minLength: 8, maxLength: 8 }),
  )
  fc.assert(
    fc.property(memberships, spoken, fc.array(action, { maxLength: 150 }), (topicsOf, codecs, actions) => {
      const node = setUpNode(1e8)
      const clients = topicsOf.map((topics, i) => ({
        ...node.connect(`c${i}`, topics, codecs[i]),
        topics: new Set(topics),
        /** What waits at the barrier of a topic. */
        withheld: new Map<Topic, number[]>(),
        expected: [] as number[],
      }))
      /** Commands and replays find what was published before given to its connections. */
      const clientOf = (i: number) => {
        node.settle()
        return clients[i]!
      }
      let n = 0
      const publish = (it: { to: Topic; size: number } | { except: Topic }) => {
        n++
        const to = 'to' in it ? it.to : it.except
        const pad = 'to' in it ? 'x'.repeat(it.size) : ''
        node.publish(to, { n, pad }, 'except' in it ? ',"except":"connection:c0"' : '')
        for (const [i, { topics, withheld, expected }] of clients.entries()) {
          const isMember = to === 'all' || topics.has(to)
          if (isMember && !('except' in it && i === 0)) (withheld.get(to) ?? expected).push(n)
        }
      }
      for (const it of actions) {
        n++
        if ('to' in it || 'except' in it) {
          const times = 'times' in it ? it.times : 1
          for (let i = 0; i < times; i++) publish(it)
        } else if ('told' in it) {
          const { connection, expected } = clientOf(it.told)
          connection.send('a', { n })
          expected.push(n)
        } else if ('joining' in it) {
          const { connection, topics } = clientOf(it.joining)
          node.registry.join(connection, it.topic)
          topics.add(it.topic)
        } else if ('leaving' in it) {
          const { connection, topics, withheld } = clientOf(it.leaving)
          node.registry.leave(connection, it.topic)
          connection.unbar(it.topic)
          topics.delete(it.topic)
          withheld.delete(it.topic)
        } else if ('withheld' in it) {
          const { connection, withheld } = clientOf(it.withheld)
          connection.withhold(it.topic)
          withheld.set(it.topic, withheld.get(it.topic) ?? [])
        } else if ('opened' in it) {
          const { connection, withheld, expected } = clientOf(it.opened)
          const waiting = connection.barriers?.get(it.topic)?.open(undefined).waiting ?? []
          for (const segment of waiting) connection.push(segment)
          expected.push(...(withheld.get(it.topic) ?? []))
          withheld.delete(it.topic)
        } else if ('flushed' in it) clients[it.flushed]!.connection.flush()
        else if ('stalled' in it) clients[it.stalled]!.transport.room = 1
        else if ('drained' in it) clients[it.drained]!.transport.drain()
        else node.flush()
      }
      node.settle()
      node.flush()
      for (const [i, { transport, expected }] of clients.entries()) {
        transport.drain()
        node.flush()
        const numbers = messagesOf(transport, codecs[i])
          .filter(({ type }) => type === 'a')
          .map(({ payload }) => payload.n)
        assert.deepEqual(numbers, expected)
        assert.equal(transport.closed, undefined)
      }
      node.delivery.clear()
    }),
    { numRuns: 300 },
  )
})

test('a small topic whose members have the same is written from memory that they share', () => {
  const node = setUpNode()
  const clients = ['c1', 'c2', 'c3'].map(id => node.connect(id, ['channel:a']))
  for (let n = 0; n < 5; n++) node.publish('channel:a', { n })
  node.flush()
  const [first, ...others] = clients.map(({ transport }) => transport.writes.map(String))
  // The welcome, and everything else in one.
  assert.equal(first!.length, 2)
  for (const other of others) assert.deepEqual(other, first)
  node.delivery.clear()
})

test('who joins, leaves or is brought up to date is given neither more nor less than the others of a group', () => {
  const node = setUpNode()
  const [first, second] = ['c1', 'c2'].map(id => node.connect(id, ['channel:a']))
  node.publish('channel:a', { n: 1 })
  const third = node.connect('c3', [])
  node.registry.join(third.connection, 'channel:a')
  node.publish('channel:a', { n: 2 })
  node.registry.leave(first!.connection, 'channel:a')
  node.publish('channel:a', { n: 3 })
  second!.connection.withhold('channel:a')
  node.publish('channel:a', { n: 4 })
  const { waiting } = second!.connection.barriers!.get('channel:a')!.open(undefined)
  for (const segment of waiting) second!.connection.push(segment)
  node.publish('channel:a', { n: 5 })
  assert.equal(second!.connection.barriers, undefined, 'nothing is left of a barrier that has done its work')
  node.flush()
  assert.deepEqual(
    [first!, second!, third].map(({ transport }) => numbersIn(transport).slice(1)),
    [
      [1, 2],
      [1, 2, 3, 4, 5],
      [2, 3, 4, 5],
    ],
  )
  node.delivery.clear()
})

test('what is added for those of a group who have not written yet reaches them, though others have written', () => {
  const node = setUpNode()
  const [first, second] = ['c1', 'c2'].map(id => node.connect(id, ['channel:a']))
  node.registry.join(second!.connection, 'channel:b')
  node.publish('channel:a', { n: 1 })
  // A round of writes that took too long ends between the two.
  first!.connection.flush()
  node.publish('channel:b', { n: 2 })
  node.flush()
  assert.deepEqual(numbersIn(first!.transport), ['welcome', 1])
  assert.deepEqual(numbersIn(second!.transport), ['welcome', 1, 2])
  node.delivery.clear()
})

test('a message to each of many users takes no block of memory for each, and reaches all', () => {
  const node = setUpNode()
  const clients = Array.from({ length: 5000 }, (_, i) => node.connect(`c${i}`, [`user:${i}`]))
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < clients.length; i++) node.publish(`user:${i}`, { n: round })
    const tails = clients.filter(({ connection }) => connection.last instanceof Tail).length
    assert.equal(tails, 2048, `round ${round}`)
    node.flush()
  }
  for (const { transport } of clients) assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2])
  node.delivery.clear()
})

test('what fills the memory of a tail is written as it is, and what follows comes after it', () => {
  for (const count of [1, 3]) {
    const node = setUpNode()
    const clients = Array.from({ length: count }, (_, i) => node.connect(`c${i}`, ['channel:a']))
    const expected = Array.from({ length: 200 }, (_, n) => n)
    const pad = 'x'.repeat(900)
    for (const n of expected) node.publish('channel:a', { n, pad })
    const due = clients.map(({ transport }) => transport.writes.slice(1).map(({ length }) => length))
    for (const sizes of due) {
      assert.equal(sizes.length, 2)
      assert.ok(Math.min(...sizes) > 63 * 1024 && Math.max(...sizes) <= 64 * 1024, `${sizes}`)
    }
    node.flush()
    for (const { transport } of clients) assert.deepEqual(numbersIn(transport), ['welcome', ...expected])
    node.delivery.clear()
  }
})

test('whose socket is full when a tail is keeps its place, and the others get what follows as before', () => {
  const node = setUpNode()
  const clients = ['c1', 'c2', 'c3'].map(id => node.connect(id, ['channel:a']))
  const expected = Array.from({ length: 150 }, (_, n) => n)
  const stalled = clients[1]!.transport
  stalled.room = 1
  for (const n of expected) node.publish('channel:a', { n, pad: 'x'.repeat(900) })
  node.flush()
  assert.ok(numbersIn(stalled).length < 100)
  assert.equal(stalled.unwanted, 0)
  stalled.drain()
  node.flush()
  for (const { transport } of clients) assert.deepEqual(numbersIn(transport), ['welcome', ...expected])
  node.delivery.clear()
})

test('a group that gets nothing more keeps no memory of what it was given', async () => {
  const node = setUpNode()
  for (const id of ['c1', 'c2', 'c3']) node.connect(id, ['channel:a'])
  const group = node.registry.audience('channel:a') as Group<Connection>
  node.publish('channel:a', { n: 1 })
  assert.equal(group.tail?.count, 1)
  node.publish('channel:a', { n: 2 })
  assert.equal(group.tail?.count, 2)
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(group.tail, undefined)
  node.delivery.clear()
})

test('what comes while clients are being told of a gap waits behind it; beyond the bound it is told as overload', async () => {
  const node = setUpNode(1000)
  const clients = Array.from({ length: 20 }, (_, i) => node.connect(`c${i}`, ['channel:a']))
  // Telling takes so long that it is cut into slices.
  for (const { connection } of clients) {
    const tell = connection.gap.bind(connection)
    connection.gap = (...gap) => {
      for (const end = performance.now() + 2; performance.now() < end; );
      tell(...gap)
    }
  }
  node.delivery.lost('broker_link', new Map([['channel:a', undefined]]))
  for (let n = 0; n < 10; n++) node.publish('channel:a', { n, pad: 'x'.repeat(200) })
  node.publish('channel:a', {}, ',"receipt":"r1"')
  node.publish('channel:a', {}, ',"x-y":"\\"receipt\\""')
  node.receive('channel:a', '{"control":"close","code":4000,"receipt":"r2"}')
  node.receive('channel:a', '{"control":"subscribe","topic":"channel:b","receipt":"r3"}')
  assert.deepEqual(
    node.answers,
    ['r1', 'r2', 'r3'].map(token => ({ token, answer: OVERLOADED })),
  )
  const dropped = node.metrics.snapshot()['messages_dropped_total{overload}']!
  assert.ok(dropped >= 5 && dropped < 14, `${dropped}`)
  const isTold = ({ texts }: FakeTransport) => texts.some(text => text.includes('"overload"'))
  const isOver = () => clients.every(({ transport }) => isTold(transport))
  await until(
    () => {
      node.flush()
      return isOver()
    },
    () => `of 20 clients ${clients.filter(({ transport }) => !isTold(transport)).length} were not told of the overload`,
  )
  const kept = 14 - dropped
  for (const { transport } of clients) {
    const seen = transport.messages.map(({ type, payload }) => (type === 'gap' ? payload.reason : type))
    const [welcome, ...rest] = seen
    assert.equal(welcome, 'welcome')
    assert.equal(rest[0], 'broker_link')
    assert.equal(rest.filter(it => it === 'overload').length, 1, 'one gap for all of them')
    assert.equal(rest.filter(it => it === 'a').length, kept)
  }
  node.delivery.clear()
})

test('what the broker drops is counted, remembered and answered, also a command', () => {
  const node = setUpNode()
  node.connect('c1', ['channel:a'])
  for (const envelope of [
    '{"type":"a","receipt":"r1"}',
    '{"control":"close","code":4000,"receipt":"r2"}',
    '{"type":"a"}',
    'no envelope with a "receipt"',
  ])
    node.delivery.dropped({ topic: 'channel:a', envelope: new Slice(Buffer.from(envelope)), sharers: 1 })
  assert.deepEqual(
    node.answers,
    ['r1', 'r2'].map(token => ({ token, answer: OVERLOADED })),
  )
  assert.equal(node.metrics.snapshot()['messages_dropped_total{overload}'], 4)
  assert.deepEqual(
    node.delivery.recent.of('channel:a').map(({ rejected }) => rejected),
    Array(4).fill('overload'),
  )
  assert.deepEqual(node.delivery.limitNotes.of('channel:a'), { overload: 4 })
  node.delivery.clear()
})

test('what finds no room at the barrier of a connection is counted and answered as overload, whichever way it went', () => {
  const node = setUpNode()
  const [behind, other] = ['c1', 'c2'].map(id => node.connect(id, ['channel:a']))
  behind!.connection.withhold('channel:a')
  for (let n = 0; n < 256; n++) node.publish('channel:a', { n })
  const counted = () => {
    const counters = node.metrics.snapshot()
    return ['messages_dropped_total', 'deliveries_skipped_total'].map(name => counters[`${name}{overload}`] ?? 0)
  }
  assert.deepEqual(counted(), [0, 0])
  node.publish('channel:a', { n: 256 })
  assert.deepEqual(counted(), [1, 1])
  node.publish('channel:a', { n: 257 }, ',"receipt":"r1"')
  assert.deepEqual(counted(), [2, 2])
  assert.deepEqual(node.answers, [{ token: 'r1', answer: { delivered: 1, skipped: 1, reasons: { overload: 1 } } }])
  // For many connections: successive publications are given to them together.
  for (let n = 0; n < 40; n++) node.connect(`many${n}`, ['channel:a'])
  node.publish('channel:a', { n: 258 })
  node.publish('channel:a', { n: 259 })
  node.settle()
  assert.deepEqual(counted(), [4, 4])
  assert.deepEqual(
    node.delivery.recent
      .of('channel:a')
      .map(({ delivered, skipped }) => ({ delivered, skipped }))
      .slice(0, 4),
    [41, 41, 1, 1].map(delivered => ({ delivered, skipped: { overload: 1 } })),
  )
  const { waiting, gap } = behind!.connection.barriers!.get('channel:a')!.open(undefined)
  assert.deepEqual([waiting.length, gap], [256, 'overload'])
  node.flush()
  assert.equal(numbersIn(other!.transport).length, 261)
  assert.equal(behind!.transport.closed, undefined)
  node.delivery.clear()
})

test('what waits at a barrier when the connection ends is counted as dropped', () => {
  for (const end of ['close', 'gone'] as const) {
    const node = setUpNode()
    const { connection } = node.connect('c1', ['channel:a'])
    connection.withhold('channel:a')
    for (let n = 0; n < 3; n++) node.publish('channel:a', { n })
    node.settle()
    connection[end]()
    assert.equal(node.metrics.snapshot()['messages_dropped_total{closed}'], 3, end)
    connection.gone()
    assert.equal(node.metrics.snapshot()['messages_dropped_total{closed}'], 3, 'once')
    node.delivery.clear()
  }
})

test('what became of each publication is remembered, whichever way it went', () => {
  const { delivery, connect, publish, settle } = setUpNode()
  const [, closing] = ['c0', 'c1', 'c2'].map(id => connect(id, ['channel:a']))
  for (let n = 0; n < 40; n++) connect(`many${n}`, ['channel:b'])
  publish('channel:a', 1)
  for (let n = 0; n < 3; n++) publish('channel:b', n)
  closing!.connection.close()
  publish('channel:a', 2)
  publish('channel:a', 3, ',"except":"connection:c0"')
  publish('channel:nobody', 4)
  settle()
  const known = (topic: Topic) => delivery.recent.of(topic).map(({ delivered, skipped }) => ({ delivered, skipped }))
  assert.deepEqual(known('channel:a'), [
    { delivered: 1, skipped: { except: 1, closing: 1 } },
    { delivered: 2, skipped: { closing: 1 } },
    { delivered: 3, skipped: {} },
  ])
  const each = { delivered: 40, skipped: {} }
  assert.deepEqual(known('channel:b'), [each, each, each])
  assert.deepEqual(known('channel:nobody'), [{ delivered: 0, skipped: {} }])
  assert.deepEqual(new Set(delivery.recent.of('channel:b').map(({ type }) => type)), new Set(['a']))
})

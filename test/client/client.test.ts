import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { beforeEach, type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import {
  type Client,
  ClientError,
  type ClientEvents,
  type ClientOptions,
  type ClientState,
  connect,
  type WebSocketLike,
} from '../../src/client/index.ts'
import { shouldReconnect } from '../../src/protocol/messages.ts'
import { Inbox, once, START, until, within } from '../helpers/waiting.ts'

const LIMIT = { timeout: 240_000 }
const MINUTE = 60_000

interface Inbound {
  type: string
  payload: Record<string, unknown>
  ref?: number
}

/** The server's end of one connection. */
class Peer {
  readonly messages = new Inbox<Inbound | Buffer>('a message of the client')
  readonly socket: WebSocket
  readonly url: string

  constructor(socket: WebSocket, url: string) {
    this.socket = socket
    this.url = url
    socket.on('message', (data: RawData, binary: boolean) =>
      this.messages.put(binary ? (data as Buffer) : JSON.parse(String(data))),
    )
  }

  send(type: string, payload: unknown, more: object = {}): void {
    this.socket.send(JSON.stringify({ type, payload, ...more }))
  }

  welcome(heartbeat: unknown = { interval: 25_000, timeout: 10_000 }): void {
    this.send('welcome', { connection: 'c1', user: null, node: 'n1', heartbeat, topics: {} })
  }

  async next(type: string): Promise<Inbound> {
    const message = (await this.messages.take()) as Inbound
    assert.equal(message.type, type, JSON.stringify(message))
    return message
  }

  async grant(): Promise<string> {
    const { payload, ref } = await this.next('subscribe')
    this.send('subscribed', { topic: payload.topic, id: 'i1', seq: 1 }, { ref })
    return payload.topic as string
  }
}

interface Server {
  url: string
  peers: Inbox<Peer>
  /** Awaits the next connection and welcomes it. */
  welcomed(): Promise<Peer>
}

async function serve(t: TestContext): Promise<Server> {
  const wss = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  const peers = new Inbox<Peer>('a connection of the client')
  wss.on('connection', (socket, request) => peers.put(new Peer(socket, request.url ?? '')))
  await once(wss, 'listening')
  t.after(() => {
    for (const socket of wss.clients) socket.terminate()
    wss.close()
  })
  const welcomed = async () => {
    const peer = await peers.take()
    peer.welcome()
    return peer
  }
  return { url: `ws://127.0.0.1:${(wss.address() as AddressInfo).port}/ws`, peers, welcomed }
}

/** Where nothing listens: a port that is given to nobody who wants just any, neither a server nor a client. */
const NOWHERE = 'ws://127.0.0.1:1/ws'

function start(t: TestContext, url: string, options: ClientOptions = {}): Client {
  const client = connect(url, { WebSocket, ...options })
  t.after(() => client.close())
  return client
}

function next<Event extends keyof ClientEvents>(client: Client, event: Event): Promise<ClientEvents[Event]> {
  const told = new Promise<ClientEvents[Event]>(resolve => {
    const off = client.listen(event, detail => {
      off()
      resolve(detail)
    })
  })
  return within(told, () => `the event ${event} of the client, which is ${client.state}`)
}

function reached(client: Client, state: ClientState): Promise<ClientEvents['state']> {
  const changed = new Promise<ClientEvents['state']>(resolve => {
    const off = client.listen('state', change => {
      if (change.state !== state) return
      off()
      resolve(change)
    })
    if (client.state === state) {
      off()
      resolve({ state })
    }
  })
  return within(changed, () => `the client is ${state}; it is ${client.state}`)
}

async function opened(t: TestContext, options: ClientOptions = {}) {
  const server = await serve(t)
  const client = start(t, server.url, options)
  const peer = await server.welcomed()
  await reached(client, 'open')
  return { server, client, peer }
}

/**
 * Timers that move by hand. Not node:test's: in Node 20, clearing a timer of the test before (`ws` does, when its socket
 * has closed at last) takes one of the present test out of their queue.
 */
class Clock {
  #now = 0
  #timers = new Map<unknown, { at: number; run: () => void }>()

  get waiting(): number {
    return this.#timers.size
  }

  set = (run: () => void, ms = 0, ...args: never[]): object => {
    const id = {}
    this.#timers.set(id, { at: this.#now + ms, run: run.bind(undefined, ...args) })
    return id
  }

  clear = (id: unknown): void => {
    this.#timers.delete(id)
  }

  tick(ms: number): void {
    const until = this.#now + ms
    for (let due = this.#due(until); due; due = this.#due(until)) {
      const [id, { at, run }] = due
      this.#now = at
      this.#timers.delete(id)
      run()
    }
    this.#now = until
  }

  #due(until: number) {
    const due = [...this.#timers].filter(([, { at }]) => at <= until)
    return due.sort(([, a], [, b]) => a.at - b.at)[0]
  }
}

/** From here on time stands until the clock is moved, and delays are `random` of what they may be. */
function holdTime(t: TestContext, random = 1): Clock {
  const clock = new Clock()
  const clear = globalThis.clearTimeout
  t.mock.method(globalThis, 'setTimeout', clock.set as unknown as typeof setTimeout)
  t.mock.method(globalThis, 'clearTimeout', (id: NodeJS.Timeout) => {
    clock.clear(id)
    clear(id)
  })
  t.mock.method(Math, 'random', () => random)
  return clock
}

/** A page: what the client looks for in a browser, for the length of one test. */
function fakePage(href: string) {
  const window = new EventTarget()
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible', baseURI: href })
  const listeners = new Set<string>()
  const add = (target: EventTarget) => (type: string, listener: EventListener) => {
    listeners.add(type)
    EventTarget.prototype.addEventListener.call(target, type, listener)
  }
  const remove = (target: EventTarget) => (type: string, listener: EventListener) => {
    listeners.delete(type)
    EventTarget.prototype.removeEventListener.call(target, type, listener)
  }
  const globals = {
    document: Object.assign(document, { addEventListener: add(document), removeEventListener: remove(document) }),
    addEventListener: add(window),
    removeEventListener: remove(window),
  }
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
  }
  return { window, document, listeners }
}

/** A socket that goes nowhere and records what was asked of it. */
class FakeSocket implements WebSocketLike {
  static made: FakeSocket[] = []
  binaryType = 'blob'
  readyState = 1
  onmessage: ((event: never) => unknown) | null = null
  onclose: ((event: never) => unknown) | null = null
  onerror: ((event: never) => unknown) | null = null
  sent: unknown[] = []
  closed: unknown[] | undefined
  readonly url: string
  constructor(url: string) {
    this.url = url
    FakeSocket.made.push(this)
  }
  send(data: unknown): void {
    this.sent.push(data)
  }
  close(...how: unknown[]): void {
    this.closed = how
  }
  hear(data: unknown): void {
    this.onmessage?.({ data } as never)
  }
}

beforeEach(() => {
  FakeSocket.made = []
  // Not at the end of the test that made them: its client is closed then, and takes its listeners away.
  for (const name of ['document', 'addEventListener', 'removeEventListener']) Reflect.deleteProperty(globalThis, name)
})

async function fakeUrl(t: TestContext, url: string): Promise<string | undefined> {
  const client = start(t, url, { WebSocket: FakeSocket })
  await Promise.resolve()
  client.close()
  return FakeSocket.made.pop()?.url
}

const rejectsWith = (promise: Promise<unknown>, code: string) =>
  assert.rejects(promise, (error: unknown) => error instanceof ClientError && error.code === code)

// Opening

test('is connecting, then open when welcomed, and keeps the welcome', LIMIT, async t => {
  const server = await serve(t)
  const client = start(t, server.url)
  assert.equal(client.state, 'connecting')
  assert.deepEqual(Object.keys(client.welcome ?? {}), [])
  assert.equal(client.send('early'), false)
  await rejectsWith(client.request('early'), 'CLOSED')
  const peer = await server.peers.take()
  assert.equal(client.state, 'connecting', 'a socket that is not welcomed is not open')
  const told = next(client, 'welcome')
  peer.welcome()
  assert.equal((await told).connection, 'c1')
  assert.equal(client.state, 'open')
  assert.equal(client.welcome?.node, 'n1')
})

test('takes http, https and relative URLs, and the scheme of the page', LIMIT, async t => {
  assert.equal(await fakeUrl(t, 'http://a.example/ws'), 'ws://a.example/ws')
  assert.equal(await fakeUrl(t, 'https://a.example:8443/ws?x=1#here'), 'wss://a.example:8443/ws?x=1')
  assert.equal(await fakeUrl(t, 'wss://a.example/ws'), 'wss://a.example/ws')
  assert.throws(() => connect('/ws', { WebSocket: FakeSocket }), TypeError)
  assert.throws(() => connect('ftp://a.example/ws', { WebSocket: FakeSocket }), /not ws, wss, http or https: ftp:/)
  fakePage('https://app.example/deep/page?q#f')
  assert.equal(await fakeUrl(t, '/ws'), 'wss://app.example/ws')
  assert.equal(await fakeUrl(t, 'ws'), 'wss://app.example/deep/ws')
  assert.equal(await fakeUrl(t, '//push.example/ws'), 'wss://push.example/ws')
  assert.equal(await fakeUrl(t, 'ws://plain.example/ws'), 'ws://plain.example/ws')
})

test('a plain page gives a plain socket', LIMIT, async t => {
  fakePage('http://localhost:3000/')
  assert.equal(await fakeUrl(t, '/ws'), 'ws://localhost:3000/ws')
  assert.equal(await fakeUrl(t, '//push.example/ws'), 'ws://push.example/ws')
})

test('says which WebSocket to pass where the runtime has none', () => {
  const builtIn = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket')
  Reflect.deleteProperty(globalThis, 'WebSocket')
  try {
    const hint = /npm install ws, then connect\(url, \{ WebSocket: \(await import\("ws"\)\)\.WebSocket \}\)$/
    assert.throws(() => connect('ws://a.example/ws'), { name: 'TypeError', message: hint })
  } finally {
    if (builtIn) Object.defineProperty(globalThis, 'WebSocket', builtIn)
  }
})

test('the WebSockets of ws and of the DOM fit the option', () => {
  const ofWs: ClientOptions = { WebSocket }
  const ofDom: ClientOptions = { WebSocket: globalThis.WebSocket }
  assert.ok(ofWs && ofDom)
})

test('payloads are typed by the message map', LIMIT, async t => {
  interface Messages {
    'order.created': { total: number }
  }
  const client = connect<Messages>('ws://a.example/ws', { WebSocket: FakeSocket })
  t.after(() => client.close())
  client.on('order.created', (payload, message) => payload.total + message.payload.total)
  client.on('*', (_payload: unknown, message) => message.type)
  // @ts-expect-error: not in the map
  client.on('order.deleted', () => {})
  // @ts-expect-error: not in the payload
  client.on('order.created', payload => payload.sum)
})

test('an attempt that is never welcomed is given up', LIMIT, async t => {
  const clock = holdTime(t)
  const server = await serve(t)
  const client = start(t, server.url)
  await server.peers.take()
  const waiting = reached(client, 'waiting')
  clock.tick(20_000)
  assert.equal((await waiting).reason, 'no welcome came')
})

// Tickets

test('a ticket is asked anew for every attempt', LIMIT, async t => {
  const clock = holdTime(t, 0)
  let asked = 0
  const server = await serve(t)
  const client = start(t, `${server.url}?room=a%20b`, { ticket: async () => `t&${++asked}` })
  const first = await server.welcomed()
  assert.deepEqual(
    [...new URL(first.url, 'ws://x').searchParams],
    [
      ['room', 'a b'],
      ['ticket', 't&1'],
    ],
  )
  await reached(client, 'open')
  const waiting = reached(client, 'waiting')
  first.socket.close(1012)
  await waiting
  clock.tick(0)
  const second = await server.peers.take()
  assert.equal(new URL(second.url, 'ws://x').searchParams.get('ticket'), 't&2')
})

for (const [name, ticket] of Object.entries({
  rejects: () => Promise.reject(new Error('no session')),
  throws: () => {
    throw new Error('no session')
  },
  'is no string': () => Promise.resolve(undefined as unknown as string),
  'is empty': () => Promise.resolve(''),
})) {
  test(`a ticket that ${name} is an error and a failed attempt`, LIMIT, async t => {
    const clock = holdTime(t)
    const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket, ticket })
    const error = next(client, 'error')
    const waiting = await reached(client, 'waiting')
    assert.equal(waiting.delay, 1000)
    assert.equal((await error).code, 'TICKET')
    assert.ok((await error).cause instanceof Error)
    assert.equal(FakeSocket.made.length, 0)
    const again = next(client, 'error')
    clock.tick(1000)
    assert.equal((await again).code, 'TICKET')
  })
}

test('a ticket that comes after its attempt was given up is not used', LIMIT, async t => {
  const clock = holdTime(t)
  const tickets = new Inbox<(ticket: string) => void>('a question for a ticket')
  const ticket = () => new Promise<string>(resolve => tickets.put(resolve))
  const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket, ticket })
  const late = await tickets.take()
  clock.tick(20_000)
  assert.equal(client.state, 'waiting')
  clock.tick(1000)
  const inTime = await tickets.take()
  late('late')
  inTime('fresh')
  await new Promise(setImmediate)
  assert.deepEqual(
    FakeSocket.made.map(socket => socket.url),
    ['ws://a.example/ws?ticket=fresh'],
  )
})

test('no ticket is asked for a client that was closed at once', LIMIT, async t => {
  let asked = 0
  const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket, ticket: async () => `t${++asked}` })
  client.close()
  await new Promise(setImmediate)
  assert.equal(asked, 0)
})

test('a WebSocket that cannot be made is an error and a failed attempt', LIMIT, async t => {
  holdTime(t)
  class Refusing extends FakeSocket {
    constructor(url: string) {
      super(url)
      throw new Error('mixed content')
    }
  }
  const client = start(t, 'ws://a.example/ws', { WebSocket: Refusing })
  const error = await next(client, 'error')
  assert.equal(error.code, 'CONNECT')
  assert.equal(client.state, 'waiting')
})

// Messages

test('published messages reach the handlers of their type and of any', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const seen: unknown[] = []
  const off = client.on('a', payload => seen.push(['first', payload]))
  client.on('a', (payload, message) => seen.push(['second', payload, message.topic, message.seq, message.id]))
  const all = new Inbox<unknown>('a published message')
  client.on('*', (_, message) => all.put(message.type))
  peer.send('a', { n: 1 }, { topic: 'channel:x', seq: 7, id: 'i7' })
  assert.equal(await all.take(), 'a')
  off()
  peer.send('a', { n: 2 }, { topic: 'all' })
  peer.send('direct', null)
  assert.equal(await all.take(), 'a')
  assert.equal(await all.take(), 'direct', 'what has no topic was sent to this connection alone')
  assert.deepEqual(seen, [
    ['first', { n: 1 }],
    ['second', { n: 1 }, 'channel:x', 7, 'i7'],
    ['second', { n: 2 }, 'all', undefined, undefined],
  ])
})

test('reserved words are no published messages, names of Object.prototype are', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const all = new Inbox<string>('a published message')
  client.on('*', (_, message) => all.put(message.type))
  for (const type of ['pong', 'ping', 'ack', 'authenticated', 'presence', 'history', 'subscribe', 'push.x'])
    peer.send(type, {})
  for (const type of ['constructor', '__proto__', 'toString']) peer.send(type, {}, { topic: 'all' })
  assert.deepEqual([await all.take(), await all.take(), await all.take()], ['constructor', '__proto__', 'toString'])
})

test('gap, reconnect and error are told', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const told = Promise.all([next(client, 'gap'), next(client, 'reconnect'), next(client, 'error')])
  peer.send('gap', { topics: ['channel:x'], reason: 'broker_link' })
  peer.send('reconnect', { after: 1500 })
  peer.send('error', { code: 'PUSH_ERR_X', message: 'no' })
  const [gap, reconnect, error] = await told
  assert.deepEqual(gap, { topics: ['channel:x'], reason: 'broker_link' })
  assert.deepEqual(reconnect, { after: 1500 })
  assert.equal(error.code, 'PUSH_ERR_X')
  assert.equal(error.message, 'no')
})

test('what is no message is told with its text, and nothing breaks', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const texts = [
    '{"type":',
    'null',
    '[]',
    '"x"',
    '{}',
    '{"type":7}',
    '{"type":"error"}',
    '{"type":"gap","payload":1}',
    '{"type":"reconnect","payload":{"after":-1}}',
    '{"type":"error","payload":{"code":{"toString":1},"message":""}}',
    '{"type":"welcome","payload":{"connection":"again"}}',
    '',
  ]
  for (const text of texts) {
    const invalid = next(client, 'invalid')
    peer.socket.send(text)
    assert.deepEqual(await invalid, { data: text })
  }
  assert.equal(client.state, 'open')
  assert.equal(client.welcome?.connection, 'c1')
})

test('gap and invalid go to the console once when nobody listens', LIMIT, async t => {
  const warned: [text: string, detail: unknown][] = []
  t.mock.method(console, 'warn', (text: string, detail: unknown) => warned.push([text, detail]))
  const { client, peer } = await opened(t)
  const gaps = [1, 2, 3].map(n => ({ topics: ['channel:x'], reason: `broker_link ${n}` }))
  const tell = async (gap: object, data: string) => {
    const told = next(client, 'reconnect')
    peer.send('gap', gap)
    peer.socket.send(data)
    peer.send('reconnect', { after: 1 })
    await told
  }
  const [off, alsoOff] = [client.listen('gap', () => {}), client.listen('invalid', () => {})]
  await tell(gaps[0]!, 'no JSON')
  assert.equal(warned.length, 0, 'somebody listens')
  off()
  alsoOff()
  await tell(gaps[1]!, '[1]')
  await tell(gaps[2]!, '[2]')
  assert.deepEqual(
    warned.map(([, detail]) => detail),
    [gaps[1], { data: '[1]' }],
  )
  assert.match(warned[0]![0], /listen for "gap"/)
  assert.match(warned[1]![0], /listen for "invalid"/)
})

test('a welcome without a connection opens nothing', LIMIT, async t => {
  const server = await serve(t)
  const client = start(t, server.url)
  const invalid = next(client, 'invalid')
  const peer = await server.peers.take()
  peer.send('welcome', null)
  await invalid
  assert.equal(client.state, 'connecting')
})

test('binary goes both ways as ArrayBuffer', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const binary = next(client, 'binary')
  peer.socket.send(Buffer.from([1, 2, 3]))
  const bytes = await binary
  assert.ok(bytes instanceof ArrayBuffer)
  assert.deepEqual([...new Uint8Array(bytes)], [1, 2, 3])
  assert.equal(client.send(new Uint8Array([4, 5])), true)
  assert.deepEqual([...((await peer.messages.take()) as Buffer)], [4, 5])
})

test('send says whether it was sent', LIMIT, async t => {
  const { client, peer } = await opened(t)
  assert.equal(client.send('chat', { text: 'hi' }), true)
  assert.deepEqual(await peer.next('chat'), { type: 'chat', payload: { text: 'hi' } })
  assert.equal(client.send('bare'), true)
  assert.deepEqual(await peer.next('bare'), { type: 'bare' })
  client.close()
  assert.equal(client.send('chat'), false)
})

test('a handler that throws or rejects is an error event, and the others are called', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const errors = new Inbox<ClientError>('an error')
  client.listen('error', error => errors.put(error))
  client.on('a', () => {
    throw new Error('mine')
  })
  client.on('a', async () => {
    throw new Error('mine too')
  })
  const other = new Promise(resolve => client.on('a', resolve))
  peer.send('a', 'payload', { topic: 'all' })
  assert.equal(await within(other, 'the other handler'), 'payload')
  const causes = [await errors.take(), await errors.take()]
  assert.deepEqual(causes.map(error => [error.code, (error.cause as Error).message]).sort(), [
    ['HANDLER', 'mine'],
    ['HANDLER', 'mine too'],
  ])
  assert.equal(client.state, 'open')
})

test('errors that nobody listens to go to the console, those of an error handler too', LIMIT, async t => {
  const printed = new Inbox<unknown>('a line on the console')
  t.mock.method(console, 'error', (what: unknown) => printed.put(what))
  const { client, peer } = await opened(t)
  client.on('a', () => {
    throw new Error('mine')
  })
  peer.send('a', {}, { topic: 'all' })
  assert.equal(((await printed.take()) as ClientError).code, 'HANDLER')
  const failure = new Error('in the error handler')
  client.listen('error', () => {
    throw failure
  })
  peer.send('error', { code: 'PUSH_ERR_X', message: 'no' })
  assert.equal(await printed.take(), failure)
})

test('no sequence of inbound garbage throws', LIMIT, async t => {
  t.mock.method(console, 'error', () => {})
  const types = [
    'welcome',
    'subscribed',
    'unsubscribed',
    'reply',
    'error',
    'gap',
    'reconnect',
    'pong',
    'a',
    '*',
    'push.x',
  ]
  const message = fc.record(
    { type: fc.constantFrom(...types), payload: fc.jsonValue(), topic: fc.jsonValue(), ref: fc.jsonValue() },
    { requiredKeys: ['type'] },
  )
  const odd = fc.record({
    type: fc.constantFrom(...types),
    payload: fc.record({
      connection: fc.constantFrom('c1', 1),
      heartbeat: fc.oneof(fc.jsonValue(), fc.record({ interval: fc.jsonValue() })),
      code: fc.constantFrom('CLOSED', 'x', { toString: 1, valueOf: 1 }, null),
      message: fc.jsonValue(),
      topics: fc.jsonValue(),
      topic: fc.jsonValue(),
      after: fc.oneof(fc.double(), fc.jsonValue()),
    }),
    ref: fc.constantFrom(1, 2, 3, undefined),
  })
  const inbound = fc.oneof(
    message.map(value => JSON.stringify(value)),
    odd.map(value => JSON.stringify(value)),
    fc.string(),
    fc.json(),
    fc.uint8Array().map(bytes => bytes.buffer),
  )
  const property = fc.asyncProperty(fc.array(inbound, { maxLength: 20 }), async sequence => {
    const client = connect('ws://a.example/ws', { WebSocket: FakeSocket, topics: ['channel:a'] })
    client.on('a', () => {
      throw new Error('mine')
    })
    await Promise.resolve()
    const socket = FakeSocket.made.pop()
    for (const data of sequence) socket?.hear(data)
    assert.ok(socket && ['connecting', 'open'].includes(client.state))
    client.close()
  })
  await fc.assert(property, { numRuns: 300 })
})

/** Has no text, as JSON may have it. */
const ODD = { toString: 1, valueOf: 1 }

test('whatever stands in the place of what a message of the server has, nothing throws', LIMIT, async t => {
  t.mock.method(console, 'error', () => {})
  t.mock.method(console, 'warn', () => {})
  const room = { topic: 'channel:a', count: 1, anonymous: 0 }
  const messages: [type: string, payloads: (odd: unknown) => object[]][] = [
    ['welcome', odd => ['topics', 'heartbeat', 'user', 'features'].map(key => ({ connection: 'c1', [key]: odd }))],
    [
      'welcome',
      odd => [{ connection: 'c1', topics: { all: odd, 'channel:a': { id: odd, seq: odd } }, features: [odd] }],
    ],
    ['subscribed', odd => [{ topic: odd }, { topic: 'channel:a', id: odd, seq: odd, recovered: odd, presence: odd }]],
    ['unsubscribed', odd => [{ topic: odd }]],
    ['gap', odd => [{ topics: odd }, { topics: [odd] }, { topics: ['all'], positions: odd }]],
    [
      'gap',
      odd => [
        { topics: [odd], positions: { all: odd } },
        { topics: ['all'], positions: { all: odd } },
      ],
    ],
    ['reconnect', odd => [{ after: odd }]],
    [
      'error',
      odd => [
        { code: odd, message: odd },
        { code: 'x', message: 'x', topic: odd },
      ],
    ],
    ['push.presence', odd => ['members', 'joined', 'updated', 'left'].map(key => ({ ...room, [key]: odd }))],
    ['push.presence', odd => ['members', 'joined', 'updated', 'left'].map(key => ({ ...room, [key]: [odd] }))],
    ['push.presence', odd => ['joined', 'updated'].map(key => ({ ...room, [key]: [{ user: odd }] }))],
    ['push.expiring', odd => [{ expires: odd }]],
    ['authenticated', odd => [{ unseen: odd }, { unseen: [odd] }]],
    ['push.published', odd => [{ id: odd }]],
  ]
  for (const odd of [ODD, [ODD], {}, null, 1, 'x', true]) {
    for (const [type, payloads] of messages) {
      for (const payload of [...payloads(odd), odd]) {
        const client = connect('ws://a.example/ws', { WebSocket: FakeSocket, topics: ['channel:a'] })
        client.presence('channel:a')
        await Promise.resolve()
        const socket = FakeSocket.made.pop()!
        const hear = (more: object) => socket.hear(JSON.stringify({ type, payload, ...more }))
        const isHarmless = () => assert.doesNotThrow(() => hear({}), `${type} ${JSON.stringify(payload)}`)
        isHarmless()
        socket.hear('{"type":"welcome","payload":{"connection":"c1","user":null,"topics":{"all":{"id":"i","seq":1}}}}')
        isHarmless()
        for (const more of [{ ref: odd }, { topic: odd, id: odd, seq: odd }, { topic: 'all', id: 'x', ack: odd }])
          hear(more)
        client.close()
      }
    }
  }
})

// Topics

test('topics asked for before it is open are subscribed once, when welcomed', LIMIT, async t => {
  const server = await serve(t)
  const client = start(t, server.url, { topics: ['channel:a'] })
  const promises = [client.subscribe('channel:b'), client.subscribe('channel:b'), client.subscribe('channel:a')]
  const peer = await server.welcomed()
  assert.equal(await peer.grant(), 'channel:a')
  assert.equal(await peer.grant(), 'channel:b')
  assert.deepEqual(
    (await Promise.all(promises)).map(answer => answer.topic),
    ['channel:b', 'channel:b', 'channel:a'],
  )
  assert.deepEqual(await client.subscribe('channel:b'), { topic: 'channel:b', id: 'i1', seq: 1 })
  client.send('end')
  await peer.next('end')
})

test('topics are subscribed again after every welcome, except those unsubscribed', LIMIT, async t => {
  const clock = holdTime(t, 0)
  const { server, client, peer } = await opened(t, { topics: ['channel:a'] })
  await peer.grant()
  client.subscribe('channel:b')
  await peer.grant()
  client.subscribe('channel:c')
  await peer.grant()
  client.unsubscribe('channel:a')
  const { payload, ref } = await peer.next('unsubscribe')
  assert.deepEqual(payload, { topic: 'channel:a' })
  peer.send('unsubscribed', payload, { ref })
  const waiting = reached(client, 'waiting')
  // The server's own decision, without a ref.
  peer.send('unsubscribed', { topic: 'channel:c' })
  peer.socket.close(1001)
  await waiting
  const meanwhile = client.subscribe('channel:d')
  clock.tick(0)
  const second = await server.welcomed()
  assert.equal(await second.grant(), 'channel:b')
  assert.equal(await second.grant(), 'channel:d')
  assert.equal((await meanwhile).topic, 'channel:d')
  client.send('end')
  await second.next('end')
})

test('a topic unsubscribed before its answer comes is subscribed anew by a later subscribe', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const first = client.subscribe('channel:a')
  client.unsubscribe('channel:a')
  await rejectsWith(first, 'UNSUBSCRIBED')
  const second = client.subscribe('channel:a')
  const refused = await peer.next('subscribe')
  const left = await peer.next('unsubscribe')
  peer.send('error', { code: 'PUSH_ERR_X', message: 'late' }, { ref: refused.ref })
  peer.send('unsubscribed', left.payload, { ref: left.ref })
  await peer.grant()
  assert.equal((await second).topic, 'channel:a')
  assert.equal(client.subscribe('channel:a'), second)
})

test('a refused topic rejects, is told and is given up', LIMIT, async t => {
  const clock = holdTime(t, 0)
  const { server, client, peer } = await opened(t)
  const told = next(client, 'error')
  const asked = client.subscribe('channel:secret')
  const { ref } = await peer.next('subscribe')
  peer.send('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'not yours' }, { ref })
  await rejectsWith(asked, 'PUSH_ERR_FORBIDDEN')
  assert.equal((await told).code, 'PUSH_ERR_FORBIDDEN')
  const waiting = reached(client, 'waiting')
  peer.socket.close(1012)
  await waiting
  clock.tick(0)
  const second = await server.welcomed()
  await reached(client, 'open')
  client.send('end')
  await second.next('end')
})

test('a refused topic may be asked for again', LIMIT, async t => {
  const { client, peer } = await opened(t)
  client.listen('error', () => {})
  const asked = client.subscribe('channel:a')
  const { ref } = await peer.next('subscribe')
  peer.send('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'not yet' }, { ref })
  await rejectsWith(asked, 'PUSH_ERR_FORBIDDEN')
  const again = client.subscribe('channel:a')
  await peer.grant()
  assert.equal((await again).topic, 'channel:a')
})

test('a subscription without an answer times out and is asked for again', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  client.listen('error', () => {})
  const asked = client.subscribe('channel:a')
  await peer.next('subscribe')
  clock.tick(10_000)
  await rejectsWith(asked, 'TIMEOUT')
  const again = client.subscribe('channel:a')
  await peer.grant()
  assert.equal((await again).topic, 'channel:a')
})

test('a subscription without an answer is asked for again on the same connection', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  const told = next(client, 'error')
  client.subscribe('channel:a')
  await peer.next('subscribe')
  clock.tick(10_000)
  assert.equal((await told).code, 'TIMEOUT')
  clock.tick(1000)
  assert.equal(await peer.grant(), 'channel:a')
})

/** A client that heard `channel:a` up to `i1`, and has just come back. */
async function returned(t: TestContext) {
  const clock = holdTime(t)
  const { server, client, peer } = await opened(t, { topics: ['channel:a'] })
  await peer.grant()
  const waiting = reached(client, 'waiting')
  peer.socket.close(1012)
  await waiting
  clock.tick(1000)
  const back = await server.welcomed()
  const refuse = async (code: string) => {
    const { payload, ref } = await back.next('subscribe')
    const told = next(client, 'error')
    back.send('error', { code, message: 'no' }, { ref })
    assert.equal((await told).code, code)
    return payload
  }
  return { clock, server, client, back, refuse }
}

test(
  'a topic that is refused after a reconnect is asked for again, later each time, where it stood',
  LIMIT,
  async t => {
    const { clock, client, back, refuse } = await returned(t)
    const codes = ['HANDLER', 'LIMIT', 'INTERNAL'].map(code => `PUSH_ERR_${code}`)
    for (const [times, code] of codes.entries()) {
      assert.deepEqual(await refuse(code), { topic: 'channel:a', since: 'i1' })
      clock.tick(1000 * 2 ** times - 1)
      client.send('before')
      await back.next('before')
      clock.tick(1)
    }
    const granted = client.subscribe('channel:a')
    assert.equal(await back.grant(), 'channel:a')
    assert.equal((await granted).topic, 'channel:a')
    assert.deepEqual(client.positions, { 'channel:a': 'i1' })
  },
)

test('a topic that is refused after a reconnect is asked for at once by whoever wants it', LIMIT, async t => {
  const { clock, client, back, refuse } = await returned(t)
  await refuse('PUSH_ERR_LIMIT')
  const again = client.subscribe('channel:a')
  const { payload, ref } = await back.next('subscribe')
  assert.deepEqual(payload, { topic: 'channel:a', since: 'i1' })
  back.send('subscribed', { topic: 'channel:a', id: 'i1', seq: 1, recovered: true }, { ref })
  await again
  clock.tick(1000)
  client.send('end')
  await back.next('end')
})

test('a topic that is forbidden after a reconnect is given up, and so is one refused at first', LIMIT, async t => {
  const { clock, client, back, refuse } = await returned(t)
  await refuse('PUSH_ERR_LIMIT')
  clock.tick(1000)
  await refuse('PUSH_ERR_FORBIDDEN')
  assert.deepEqual(client.positions, {})
  const first = client.subscribe('channel:b')
  await refuse('PUSH_ERR_LIMIT')
  await rejectsWith(first, 'PUSH_ERR_LIMIT')
  clock.tick(20_000)
  client.send('end')
  await back.next('end')
})

test('what was refused is not asked for later on a connection that is gone', LIMIT, async t => {
  const clock = holdTime(t)
  const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket, topics: ['channel:a'] })
  client.listen('error', () => {})
  const connection = async () => {
    await new Promise(setImmediate)
    const socket = FakeSocket.made.pop()!
    socket.hear('{"type":"welcome","payload":{"connection":"c1"}}')
    return socket
  }
  const refused = async () => {
    const socket = await connection()
    const { ref } = JSON.parse(String(socket.sent[0]))
    socket.hear(JSON.stringify({ type: 'error', payload: { code: 'PUSH_ERR_LIMIT', message: 'no' }, ref }))
    await new Promise(setImmediate)
    return socket
  }
  const first = await connection()
  first.onclose?.({ code: 1012, reason: '' } as never)
  clock.tick(1000)
  const second = await refused()
  const timers = clock.waiting
  second.onclose?.({ code: 1012, reason: '' } as never)
  assert.ok(timers - clock.waiting >= 2, 'the ping and the question')
  clock.tick(2000)
  const third = await refused()
  assert.equal(second.sent.length, 1)
  clock.tick(1000)
  assert.equal(third.sent.length, 2, 'the delays start again')
  client.close()
  await new Promise(setImmediate)
  assert.equal(clock.waiting, 0)
})

test('a loss rejects what is unanswered; the topics are still wanted', LIMIT, async t => {
  const clock = holdTime(t, 0)
  const { server, client, peer } = await opened(t)
  const subscription = client.subscribe('channel:a')
  const request = client.request('sum', [1, 2])
  await peer.next('subscribe')
  await peer.next('sum')
  const both = Promise.all([rejectsWith(subscription, 'CLOSED'), rejectsWith(request, 'CLOSED')])
  peer.socket.terminate()
  await both
  const next = client.subscribe('channel:a')
  assert.notEqual(next, subscription)
  clock.tick(0)
  const second = await server.welcomed()
  await second.grant()
  assert.equal((await next).topic, 'channel:a')
})

test('a topic that waits for its turn to be asked for is rejected like the others', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const topics = Array.from({ length: 18 }, (_, n) => `channel:${n}`)
  const asked = topics.map(topic => client.subscribe(topic))
  // The server's own decision, without a ref, about one that is not under way.
  peer.send('unsubscribed', { topic: 'channel:16' })
  await rejectsWith(asked[16]!, 'UNSUBSCRIBED')
  peer.socket.terminate()
  await rejectsWith(asked[17]!, 'CLOSED')
  const next = client.subscribe('channel:17')
  client.close()
  await rejectsWith(next, 'CLOSED')
})

test('an unsubscription by the server that crosses a question does not undo its answer', LIMIT, async t => {
  const clock = holdTime(t, 0)
  const { server, client, peer } = await opened(t)
  const asked = client.subscribe('channel:a')
  peer.send('unsubscribed', { topic: 'channel:a' })
  await peer.grant()
  await asked
  assert.equal(client.subscribe('channel:a'), asked)
  assert.deepEqual(client.positions, { 'channel:a': 'i1' })
  const waiting = reached(client, 'waiting')
  peer.socket.close(1012)
  await waiting
  clock.tick(0)
  const second = await server.welcomed()
  const again = next(client, 'subscribed')
  await second.grant()
  await again
  const left = next(client, 'gap')
  second.send('unsubscribed', { topic: 'channel:a' })
  second.send('gap', { topics: [] })
  await left
  assert.deepEqual(client.positions, {}, 'once it is answered the decision stands')
})

// Requests

test('a request resolves with its reply, or rejects with its error', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const first = client.request<number>('sum', [1, 2])
  const second = client.request('sum', 'x')
  const a = await peer.next('sum')
  const b = await peer.next('sum')
  assert.deepEqual(a.payload, [1, 2])
  assert.notEqual(a.ref, b.ref)
  peer.send('error', { code: 'PUSH_ERR_SCHEMA', message: 'an array' }, { ref: b.ref })
  peer.send('reply', 3, { ref: a.ref })
  await rejectsWith(second, 'PUSH_ERR_SCHEMA')
  assert.equal(await first, 3)
})

test('a request without an answer times out, and a late one is ignored', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  const quick = client.request('slow', 1, { timeout: 50 })
  const usual = client.request('slow', 2)
  const patient = client.request('slow', 3, { timeout: Number.POSITIVE_INFINITY })
  const [first] = [await peer.next('slow'), await peer.next('slow'), await peer.next('slow')]
  clock.tick(50)
  await rejectsWith(quick, 'TIMEOUT')
  clock.tick(9_950)
  await rejectsWith(usual, 'TIMEOUT')
  peer.send('reply', 'late', { ref: first?.ref })
  client.close()
  await rejectsWith(patient, 'CLOSED')
})

test('a payload that JSON has no text for rejects the request and leaves nothing behind', LIMIT, async t => {
  const { client } = await opened(t)
  await assert.rejects(client.request('a', 1n), TypeError)
  assert.throws(() => client.send('a', 1n), TypeError)
})

test('requests without an answer are bounded', LIMIT, async t => {
  const { client } = await opened(t)
  const unanswered = Array.from({ length: 256 }, () => client.request('a').catch((error: ClientError) => error.code))
  await rejectsWith(client.request('a'), 'BUSY')
  client.close()
  assert.deepEqual(new Set(await Promise.all(unanswered)), new Set(['CLOSED']))
})

// Liveness

test('pings every 25 s while answered', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  for (const answer of ['pong', 'anything', 'pong']) {
    clock.tick(24_999)
    assert.equal(peer.messages.size, 0)
    clock.tick(1)
    assert.deepEqual(await peer.next('ping'), { type: 'ping' })
    const heard = answer === 'pong' ? next(client, 'gap') : new Promise(resolve => client.on('anything', resolve))
    peer.send(answer, {})
    peer.send('gap', { topics: [] })
    await within(heard, answer)
  }
  assert.equal(client.state, 'open')
})

test('pings every 25 s through a stream of messages too', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  for (let second = 0; second < 24; second += 8) {
    clock.tick(8_000)
    const heard = next(client, 'gap')
    peer.send('gap', { topics: [] })
    await heard
  }
  clock.tick(1_000)
  await peer.next('ping')
})

test('binary and unparsable messages are answers too', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  clock.tick(25_000)
  await peer.next('ping')
  const binary = next(client, 'binary')
  peer.socket.send(Buffer.from('x'))
  await binary
  clock.tick(20_000)
  assert.equal(client.state, 'open')
  clock.tick(5_000)
  await peer.next('ping')
  const invalid = next(client, 'invalid')
  peer.socket.send('{')
  await invalid
  clock.tick(20_000)
  assert.equal(client.state, 'open')
})

test('two pings without an answer: leaves the socket and connects again', LIMIT, async t => {
  const clock = holdTime(t)
  const { server, client, peer } = await opened(t)
  clock.tick(25_000)
  await peer.next('ping')
  clock.tick(10_000)
  await peer.next('ping')
  assert.equal(client.state, 'open', 'one may be lost')
  peer.socket.pause()
  const waiting = reached(client, 'waiting')
  clock.tick(10_000)
  assert.match((await waiting).reason ?? '', /2 pings went unanswered/)
  clock.tick(1000)
  const again = await server.peers.take()
  const late: unknown[] = []
  client.on('*', (_, message) => late.push(message))
  peer.socket.resume()
  peer.send('late', {}, { topic: 'all' })
  again.welcome()
  await reached(client, 'open')
  assert.deepEqual(late, [])
})

test('an answer after the first miss starts the count again', LIMIT, async t => {
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  for (let round = 0; round < 3; round++) {
    clock.tick(25_000)
    await peer.next('ping')
    clock.tick(10_000)
    await peer.next('ping')
    const heard = next(client, 'gap')
    peer.send('gap', { topics: [] })
    await heard
  }
  assert.equal(client.state, 'open')
})

for (const [interval, every] of [
  [5_000, 5_000],
  [60_000, 25_000],
  [0, 1_000],
  ['soon', 25_000],
  [null, 25_000],
] as const) {
  test(`a heartbeat interval of ${interval} means a ping every ${every} ms`, LIMIT, async t => {
    const clock = holdTime(t)
    const server = await serve(t)
    const client = start(t, server.url)
    const peer = await server.peers.take()
    peer.welcome({ interval })
    await reached(client, 'open')
    clock.tick(every - 1)
    assert.equal(client.send('before'), true)
    await peer.next('before')
    clock.tick(1)
    await peer.next('ping')
  })
}

test('a page that is seen, online or shown again pings at once and waits 5 s', LIMIT, async t => {
  const { window, document, listeners } = fakePage('http://localhost/')
  const clock = holdTime(t)
  const { client, peer } = await opened(t)
  document.visibilityState = 'hidden'
  document.dispatchEvent(new Event('visibilitychange'))
  client.send('hidden')
  await peer.next('hidden')
  document.visibilityState = 'visible'
  document.dispatchEvent(new Event('visibilitychange'))
  await peer.next('ping')
  for (const type of ['online', 'pageshow']) {
    const heard = next(client, 'gap')
    peer.send('gap', { topics: [] })
    await heard
    window.dispatchEvent(new Event(type))
    await peer.next('ping')
  }
  clock.tick(5_000)
  await peer.next('ping')
  const waiting = reached(client, 'waiting')
  clock.tick(10_000)
  await waiting
  assert.deepEqual([...listeners].sort(), ['online', 'pageshow', 'visibilitychange'])
  client.close()
  assert.deepEqual([...listeners], [])
  window.dispatchEvent(new Event('online'))
  assert.equal(client.state, 'closed')
})

test('a page that is seen again and again notices a dead link no later', LIMIT, async t => {
  const { document } = fakePage('http://localhost/')
  const clock = holdTime(t)
  const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket })
  await new Promise(setImmediate)
  FakeSocket.made[0]!.hear('{"type":"welcome","payload":{"connection":"c1"}}')
  for (let second = 0; second < 15; second++) {
    assert.equal(client.state, 'open')
    document.dispatchEvent(new Event('visibilitychange'))
    clock.tick(1000)
  }
  assert.equal(client.state, 'waiting')
})

test('a page that comes online does not wait out the delay', LIMIT, async t => {
  const { window } = fakePage('http://localhost/')
  const clock = holdTime(t)
  const { server, client, peer } = await opened(t)
  const waiting = reached(client, 'waiting')
  peer.socket.terminate()
  await waiting
  window.dispatchEvent(new Event('online'))
  assert.equal(client.state, 'connecting')
  window.dispatchEvent(new Event('online'))
  await server.welcomed()
  await reached(client, 'open')
  clock.tick(5_000)
  assert.equal(server.peers.size, 0, 'one attempt at a time')
})

// Reconnecting

test('stays closed or comes back as the close code says', LIMIT, async t => {
  holdTime(t)
  const server = await serve(t)
  const codes = [
    1000, 1001, 1008, 1009, 1011, 1012, 1013, 3000, 4000, 4400, 4401, 4403, 4429, 4499, 4500, 4502, 4503, 4504,
  ]
  for (const code of codes) {
    const client = start(t, server.url)
    const peer = await server.welcomed()
    await reached(client, 'open')
    const expected = shouldReconnect(code) ? 'waiting' : 'closed'
    const change = reached(client, expected)
    peer.socket.close(code, 'why')
    assert.deepEqual(await change, {
      state: expected,
      code,
      reason: 'why',
      ...(expected === 'waiting' && { delay: 1000 }),
    })
    client.close()
  }
})

test('comes back after a close without a code and after none at all', LIMIT, async t => {
  holdTime(t)
  for (const [leave, code] of [
    ['close', 1005],
    ['terminate', 1006],
  ] as const) {
    const { client, peer } = await opened(t)
    const waiting = reached(client, 'waiting')
    peer.socket[leave]()
    assert.equal((await waiting).code, code)
  }
})

test('a refusal before the welcome (4403) is final', LIMIT, async t => {
  const server = await serve(t)
  const client = start(t, server.url)
  const subscription = client.subscribe('channel:a')
  const peer = await server.peers.take()
  peer.socket.close(4403, 'origin not allowed')
  const closed = await reached(client, 'closed')
  assert.equal(closed.reason, 'origin not allowed')
  await rejectsWith(subscription, 'CLOSED')
  await rejectsWith(client.subscribe('channel:a'), 'CLOSED')
  // Not awaited: an unhandled rejection would fail this test.
  client.subscribe('channel:a')
  await new Promise(setImmediate)
})

/** Every wait of the client, as it begins. */
function waits(client: Client): Inbox<ClientEvents['state']> {
  const inbox = new Inbox<ClientEvents['state']>('a wait of the client')
  client.listen('state', change => {
    if (change.state === 'waiting') inbox.put(change)
  })
  return inbox
}

test('delays double from 1 s to 30 s, each between nothing and all of it', LIMIT, async t => {
  t.mock.method(console, 'warn', () => {})
  const clock = holdTime(t)
  for (const random of [0, 0.5, 1]) {
    t.mock.method(Math, 'random', () => random)
    const client = start(t, NOWHERE)
    const inbox = waits(client)
    for (const most of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      const { delay } = await inbox.take()
      assert.equal(delay, random * most)
      if (delay) clock.tick(delay - 1)
      assert.equal(client.state, 'waiting')
      clock.tick(1)
      assert.equal(client.state, 'connecting')
    }
    client.close()
  }
})

test('delays start again only after 10 s open', LIMIT, async t => {
  const clock = holdTime(t)
  const server = await serve(t)
  const client = start(t, server.url)
  const inbox = waits(client)
  const round = async (open: number) => {
    const peer = await server.welcomed()
    await reached(client, 'open')
    clock.tick(open)
    peer.socket.close(1012)
    const { delay } = await inbox.take()
    clock.tick(delay ?? 0)
    return delay
  }
  assert.deepEqual([await round(0), await round(9_999), await round(10_000), await round(0)], [1000, 2000, 1000, 2000])
})

for (const code of [1012, 4503]) {
  test(`a server that closes with ${code} says when to come back, once`, LIMIT, async t => {
    const { window } = fakePage('http://localhost/')
    const clock = holdTime(t)
    const { server, client, peer } = await opened(t)
    const inbox = waits(client)
    peer.send('reconnect', { after: 12_345 })
    peer.socket.close(code)
    assert.equal((await inbox.take()).delay, 12_345)
    window.dispatchEvent(new Event('online'))
    clock.tick(12_344)
    assert.equal(client.state, 'waiting', 'a page that wakes does not come before its turn')
    clock.tick(1)
    const second = await server.welcomed()
    await reached(client, 'open')
    second.socket.close(code)
    assert.equal((await inbox.take()).delay, 1000)
  })
}

test('a delay beyond what a timer holds is as long as one holds', LIMIT, async t => {
  holdTime(t)
  const { client, peer } = await opened(t)
  const inbox = waits(client)
  peer.socket.send('{"type":"reconnect","payload":{"after":1e999}}')
  peer.socket.close(1012)
  assert.equal((await inbox.take()).delay, 2 ** 31 - 1)
})

test('three unanswered attempts are told once, with what to check, and trying goes on', LIMIT, async t => {
  const clock = holdTime(t)
  const client = start(t, `${NOWHERE}?key=secret`)
  const inbox = waits(client)
  const told: ClientEvents['unreachable'][] = []
  client.listen('unreachable', detail => told.push(detail))
  for (const times of [0, 0, 1, 1, 1, 1]) {
    const { delay } = await inbox.take()
    assert.equal(told.length, times)
    await Promise.resolve()
    clock.tick(delay ?? 0)
  }
  assert.equal(told[0]?.attempts, 3)
  for (const word of [NOWHERE, 'ECONNREFUSED', 'path option', 'server runs', 'Upgrade', 'origins option'])
    assert.ok(told[0]?.message.includes(word), word)
  assert.ok(!told[0]?.message.includes('secret'))
  assert.equal(client.state, 'connecting')
})

test('unreachable goes to the console when nobody listens, and a refused upgrade is named', LIMIT, async t => {
  const clock = holdTime(t, 0)
  const http = createServer((_, response) => response.writeHead(404).end())
  http.on('upgrade', (_, socket) => socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'))
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.after(() => http.close())
  const warned = new Promise<string>(resolve => t.mock.method(console, 'warn', resolve))
  const client = start(t, `http://127.0.0.1:${(http.address() as AddressInfo).port}/wrong`)
  client.listen('state', change => change.state === 'waiting' && queueMicrotask(() => clock.tick(0)))
  assert.match(await within(warned, 'a warning'), /\/wrong in 3 attempts .*404/)
})

test('a server that answers with a code is not unreachable', LIMIT, async t => {
  const clock = holdTime(t)
  const server = await serve(t)
  const client = start(t, server.url)
  const inbox = waits(client)
  const told: unknown[] = []
  client.listen('unreachable', detail => told.push(detail))
  for (let attempt = 0; attempt < 4; attempt++) {
    const peer = await server.peers.take()
    peer.socket.close(1013)
    clock.tick((await inbox.take()).delay ?? 0)
  }
  assert.deepEqual(told, [])
})

// Closing

test('close sends its code and reason, and is final', LIMIT, async t => {
  const { client, peer } = await opened(t)
  const states: string[] = []
  client.listen('state', change => states.push(`${change.state} ${change.code} ${change.reason}`))
  const closed = once(peer.socket, 'close')
  client.close(4000, 'bye')
  client.close()
  assert.equal(client.state, 'closed')
  const [code, reason] = await closed
  assert.deepEqual([code, String(reason)], [4000, 'bye'])
  assert.deepEqual(states, ['closed 4000 bye'])
})

test('close leaves no timer, whatever the state', LIMIT, async t => {
  const clock = holdTime(t)
  for (const state of ['connecting', 'open', 'waiting']) {
    const client = start(t, 'ws://a.example/ws', { WebSocket: FakeSocket })
    await new Promise(setImmediate)
    const socket = FakeSocket.made.pop()
    if (state !== 'connecting') socket?.hear('{"type":"welcome","payload":{"connection":"c1"}}')
    const pending = state === 'open' ? [client.request('a'), client.subscribe('channel:a')] : []
    if (state === 'waiting') socket?.onclose?.({ code: 1012, reason: '' } as never)
    assert.equal(client.state, state)
    assert.ok(clock.waiting > 0)
    client.close()
    await Promise.allSettled(pending)
    await new Promise(setImmediate)
    assert.equal(clock.waiting, 0, state)
  }
})

test('close refuses what a browser would', LIMIT, async t => {
  const { client } = await opened(t)
  for (const code of [0, 999, 1001, 1006, 2999, 5000, Number.NaN]) assert.throws(() => client.close(code), RangeError)
  assert.throws(() => client.close(1000, 'é'.repeat(62)), RangeError)
  assert.equal(client.state, 'open')
  client.close(1000, `${'é'.repeat(61)}x`)
})

test('close while connecting, waiting or from a handler leaves nothing to come', LIMIT, async t => {
  const clock = holdTime(t)
  const server = await serve(t)
  const connecting = start(t, server.url)
  await Promise.resolve()
  connecting.close()
  const inHandler = start(t, NOWHERE)
  const closed = reached(inHandler, 'closed')
  inHandler.listen('state', () => inHandler.close())
  await closed
  const atConnecting = start(t, NOWHERE)
  const inbox = waits(atConnecting)
  atConnecting.listen('state', change => change.state === 'connecting' && atConnecting.close())
  clock.tick((await inbox.take()).delay ?? 0)
  clock.tick(MINUTE)
  for (const client of [connecting, inHandler, atConnecting]) assert.equal(client.state, 'closed')
  assert.equal(server.peers.size, 0)
})

test('a client that is closed as it opens is not welcomed', LIMIT, async t => {
  const server = await serve(t)
  const client = start(t, server.url)
  const events: string[] = []
  client.listen('welcome', () => events.push('welcome'))
  client.listen('state', ({ state }) => {
    events.push(state)
    client.close()
  })
  const peer = await server.welcomed()
  await once(peer.socket, 'close')
  assert.deepEqual(events, ['open', 'closed'])
})

test('a closed client keeps no process alive', LIMIT, async t => {
  const server = await serve(t)
  const program = `
    import { WebSocket } from 'ws'
    import { connect } from './src/client/index.ts'
    const client = connect(${JSON.stringify(server.url)}, { WebSocket })
    client.listen('welcome', () => {
      client.request('never').catch(error => console.log(error.code))
      client.subscribe('channel:never')
      client.listen('state', () => console.log('closed'))
      setTimeout(() => client.close())
    })
    const lonely = connect(${JSON.stringify(NOWHERE)}, { WebSocket })
    lonely.listen('state', ({ state }) => state === 'waiting' && lonely.close())
  `
  const args = ['--import', 'tsx', '--input-type=module', '--eval', program]
  const [{ stdout }] = await Promise.all([
    promisify(execFile)(process.execPath, args, { timeout: START }),
    server.peers.take(START).then(peer => peer.welcome()),
  ])
  assert.equal(stdout, 'closed\nCLOSED\n')
})

test('a close with 1009 ends the client also where close() takes no such code, as in browsers', async () => {
  class Strict {
    readyState = 1
    binaryType = ''
    onmessage: ((event: { data: unknown }) => void) | null = null
    onclose: ((event: { code: number; reason: string }) => void) | null = null
    onerror: (() => void) | null = null
    static last: Strict
    constructor() {
      Strict.last = this
    }
    send(): void {}
    close(code?: number): void {
      if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999))
        throw new RangeError('InvalidAccessError')
    }
  }
  const client = connect('ws://127.0.0.1:1', { WebSocket: Strict as never })
  await until(() => Strict.last, 'a socket of the client')
  Strict.last.onclose?.({ code: 1009, reason: 'too big' })
  assert.equal(client.state, 'closed')
})

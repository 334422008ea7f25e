import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EVENT_FLAGS, EVENT_USAGE, readEvents } from '../../src/node/events/environment.ts'
import { parseOptions } from '../../src/options/parse.ts'

const REDIS = { path: '/ws', redis: 'redis://127.0.0.1:6379' }
const SECRET = '0123456789abcdef'
const http = { url: 'https://backend.example.com/push', secret: SECRET, connect: true }

const parse = (events: unknown, others: object = {}) => parseOptions({ ...REDIS, ...others, events }).events

const refused = (events: unknown, message: RegExp, others: object = {}) =>
  assert.throws(() => parse(events, others), { code: 'PUSH_ERR_OPTIONS', message }, JSON.stringify(events))

test('a stream or an address is enough, and everything else has its default', () => {
  const kinds = ['connect', 'disconnect', 'subscribe', 'unsubscribe', 'message', 'rejected']
  assert.deepEqual(parse({ stream: {} }), {
    messages: [],
    queue: { count: 10_000, bytes: 16_777_216 },
    stream: { name: 'events', include: kinds, rules: [], maxLength: 100_000, maxAge: 86_400_000 },
  })
  assert.deepEqual(parse({ http })?.http, {
    ...http,
    headers: [],
    subscribe: false,
    message: [],
    events: [],
    timeout: 2000,
    concurrency: 20,
    maxAnswer: 65_536,
    allowHttp: false,
  })
  assert.equal(parseOptions(REDIS).events, undefined)
})

test('what cannot be meant is refused with the path and a remedy', () => {
  refused({}, /option events has neither stream nor http/)
  refused([], /option events must be an object/)
  refused({ stream: {}, htpp: {} }, /events.*unknown key "htpp": did you mean "http"/)
  refused({ stream: { nmae: 'events' } }, /events\.stream: unknown key "nmae": did you mean "name"/)
  refused({ stream: { name: 'rejected' } }, /option events\.stream\.name must match/)
  refused({ stream: { name: 'events:{a}' } }, /option events\.stream\.name must match/)
  refused({ stream: { include: ['conect'] } }, /option events\.stream\.include\.0/)
  refused({ stream: { rules: [{ name: 'events:a', topic: [] }] } }, /unknown key "topic": did you mean "topics"/)
  refused({ stream: { rules: [{ name: 'events:a', topics: ['orders'] }] } }, /rules\.0 cannot be used: .*no topic/)
  refused({ stream: { rules: [{ name: 'events:a', types: ['ping'] }] } }, /rules\.0 cannot be used: .*reserved/)
  refused({ stream: { maxAge: 1 } }, /option events\.stream\.maxAge must be >= 1000/)
  refused({ stream: {} }, /events\.stream needs the option redis/, { redis: false })
  refused({ stream: {}, messages: ['push.*'] }, /events\.messages has "push\.\*", which is reserved/)
  refused({ stream: { include: ['connect'] }, messages: ['a'] }, /events\.messages leads nowhere/)
  refused({ queue: { count: 0 }, stream: {} }, /option events\.queue\.count must be >= 1/)
})

test('a backend that could be misused, or is never called, is refused; its secrets stay out of the message', () => {
  refused({ http: { ...http, url: undefined } }, /events\.http/)
  for (const url of ['backend', 'ftp://a/', 'redis://a', '/push'])
    refused({ http: { ...http, url } }, /must be an address/)
  refused({ http: { ...http, url: 'https://me:pw@a/' } }, /^((?!pw@).)*has a user or a password in it((?!pw@).)*$/)
  refused({ http: { ...http, url: 'https://a/#x' } }, /has a # in it/)
  for (const host of ['10.0.0.1', '127.0.0.1.example.com', 'localhost.example.com', '0.0.0.0', '[::]', 'backend'])
    refused({ http: { ...http, url: `http://${host}/` } }, /http:\/\/ to another machine/)
  for (const host of ['127.0.0.1', '127.1.2.3:8080', 'localhost', '[::1]:80'])
    assert.ok(parse({ http: { ...http, url: `http://${host}/` } }))
  assert.ok(parse({ http: { ...http, url: 'http://backend/', allowHttp: true } }))
  refused({ http: { ...http, secret: 'short' } }, /^((?!"short").)*fewer than 16((?!"short").)*$/)
  refused({ http: { ...http, secret: [SECRET, 'x'] } }, /fewer than 16/)
  refused({ http: { ...http, secret: [] } }, /events\.http\.secret/)
  refused({ http: { ...http, connect: false } }, /asks and tells nothing/)
  refused({ http: { ...http, connect: false, subscribe: true, headers: ['cookie'] } }, /headers needs connect/)
  refused({ http: { ...http, headers: ['a b'] } }, /events\.http\.headers\.0/)
})

test('two that would decide the same are refused', () => {
  refused({ http }, /connect takes the place of authenticate/, { authenticate: () => null })
  refused({ http: { ...http, connect: false, subscribe: true } }, /takes the place of authorize/, {
    authorize: () => true,
  })
  const handlers = { chat: { schema: {}, handler() {} } }
  refused({ http: { ...http, message: ['chat'] } }, /message has "chat", for which there is a handler/, { handlers })
  refused({ stream: {}, messages: ['chat'] }, /messages has "chat", for which there is a handler/, { handlers })
  assert.ok(parse({ http: { ...http, message: ['*'] } }, { handlers, authorize: () => true }))
})

test('serve reads it from flags and the environment', () => {
  assert.equal(readEvents({}, {}), undefined)
  assert.equal(
    readEvents({ 'events-stream': '' }, { EVENTS_STREAM: '', BACKEND_URL: '', BACKEND_CALLS: '' }),
    undefined,
  )
  assert.deepEqual(readEvents({ 'events-messages': 'a, b.*' }, { EVENTS_STREAM: 'events', EVENTS_KINDS: 'message' }), {
    messages: ['a', 'b.*'],
    stream: { name: 'events', include: ['message'] },
  })
  const env = {
    BACKEND_URL: 'http://127.0.0.1/',
    BACKEND_SECRET: `${SECRET},${SECRET}2`,
    BACKEND_CALLS: 'connect,subscribe',
    BACKEND_HEADERS: 'cookie',
    BACKEND_MESSAGES: 'chat.*',
    BACKEND_EVENTS: 'connect',
    BACKEND_TIMEOUT: '500',
  }
  const events = readEvents({ 'backend-url': 'https://backend/' }, env)
  const parsed = parse(events)?.http
  assert.deepEqual([parsed?.url, parsed?.secret], ['https://backend/', [SECRET, `${SECRET}2`]])
  assert.deepEqual([parsed?.connect, parsed?.subscribe, parsed?.timeout, parsed?.allowHttp], [true, true, 500, false])
  assert.deepEqual([parsed?.headers, parsed?.message, parsed?.events], [['cookie'], ['chat.*'], ['connect']])
  assert.equal(readEvents({ 'backend-allow-http': true }, env)?.http?.allowHttp, true)
  assert.throws(() => readEvents({}, { BACKEND_URL: 'https://a/' }), /BACKEND_SECRET is not set/)
  assert.throws(() => readEvents({}, { BACKEND_CALLS: 'connect' }), /BACKEND_CALLS .* but not BACKEND_URL/)
  assert.throws(() => readEvents({}, { ...env, BACKEND_CALLS: 'conect' }), /BACKEND_CALLS .* has "conect"/)
  assert.throws(() => readEvents({}, { EVENTS_KINDS: 'connect' }), /EVENTS_KINDS .* but not EVENTS_STREAM/)
  assert.throws(() => readEvents({}, { EVENTS_MESSAGES: 'a' }), /neither EVENTS_STREAM nor BACKEND_URL/)
  for (const flag of Object.keys(EVENT_FLAGS)) assert.match(EVENT_USAGE, new RegExp(`--${flag}\\b`))
})

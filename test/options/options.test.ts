import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Redis } from 'ioredis'
import { Type } from 'typebox'
import { createClient, identityOf } from '../../src/broker/redis/client.ts'
import { clientHandler, type Options, OptionsSchema } from '../../src/options/options.ts'
import { parseOptions } from '../../src/options/parse.ts'
import { PresenceRules } from '../../src/options/presence.ts'

const PATH = { path: '/ws' }

const DEFAULTS = {
  path: '/ws',
  name: 'push',
  redisPrefix: 'push:',
  tickets: false,
  publishTimeout: 2000,
  slowConsumer: 'close',
  noteRejected: true,
  heartbeat: { interval: 25_000, timeout: 10_000 },
  limits: {
    inbound: 65_536,
    publication: 262_144,
    buffer: 1_048_576,
    bufferTime: 10_000,
    nodeBuffer: 268_435_456,
    connections: 50_000,
    topics: 128,
    messages: 100,
    pending: 32,
    handshake: 10_000,
    userConnections: 100,
    addressConnections: 5000,
    upgrades: 2000,
    addressUpgrades: 200,
    pendingUpgrades: 5000,
    userTickets: 100,
    handlerTime: 30_000,
  },
  workers: { threads: 2, queue: 100 },
  drain: { delay: 0, window: 5000, timeout: 5000 },
  expiry: { warn: 30_000 },
  revocation: { ttl: 86_400 },
  redis: false,
  callbacks: {},
  schemas: {},
  history: {},
  presence: new PresenceRules(),
  handlers: {},
  clientPublications: {},
  api: undefined,
  events: undefined,
  compression: undefined,
  sse: undefined,
  metrics: undefined,
  health: undefined,
}

test('a path is enough, and every other option has its default', () => {
  assert.deepEqual(parseOptions(PATH), DEFAULTS)
})

test('every option is described, and has a default unless it is required or derived', () => {
  for (const [name, property] of Object.entries(OptionsSchema.properties)) {
    assert.ok('description' in property && property.description, name)
    if (name !== 'path' && name !== 'origins') assert.ok('default' in property, name)
    if (!('properties' in property)) continue
    for (const [inner, leaf] of Object.entries(property.properties as Record<string, object>)) {
      assert.ok('description' in leaf && 'default' in leaf, `${name}.${inner}`)
    }
  }
})

test('presence: rules by pattern, with their defaults, and who is online', () => {
  const parse = (presence: unknown) => parseOptions({ ...PATH, presence }).presence
  const rules = parse({
    users: true,
    lease: 2000,
    'channel:room.*': { info: true },
    'channel:*': { grace: 0 },
    'user:*': false,
  })
  assert.deepEqual(rules.of('channel:room.1'), { info: true, grace: 5000, members: 500 })
  assert.deepEqual(rules.of('channel:other'), { info: false, grace: 0, members: 500 })
  assert.deepEqual(rules.of('all'), { info: true, grace: 5000, members: 500 })
  assert.deepEqual([rules.of('user:1'), rules.of('connection:1'), rules.lease], [undefined, undefined, 2000])
  assert.equal(parse({}).areAny, false)
  for (const [presence, message] of [
    [{ users: 1 }, /option presence\.users must be true or \{/],
    [{ 'channel:x': { inof: true } }, /option presence\["channel:x"\] unknown key "inof": did you mean "info"/],
    [{ 'channel:x': { grace: -1 } }, /option presence\["channel:x"\]\.grace /],
    [{ all: true }, /write users: true/],
    [{ 'connection:*': true }, /is not allowed/],
    [{ room: true }, /option presence\["room"\] is not allowed/],
    [{ lease: 10 }, /option presence\.lease is not a whole number/],
  ] as const) {
    assert.throws(() => parse(presence), { code: 'PUSH_ERR_OPTIONS', message }, JSON.stringify(presence))
  }
})

test('undefined counts as left out, in groups too', () => {
  const given = {
    ...PATH,
    name: undefined,
    heartbeat: { interval: 5000, timeout: undefined },
    limits: undefined,
    api: undefined,
  }
  assert.deepEqual(parseOptions(given), { ...DEFAULTS, heartbeat: { interval: 5000, timeout: 10_000 } })
})

test('defaults are not shared between registrations', () => {
  const first = parseOptions(PATH)
  first.limits.buffer = 1
  first.handlers.a = clientHandler(Type.Null(), () => {})
  assert.deepEqual(parseOptions(PATH), DEFAULTS)
})

const GIVEN: [name: keyof Options, value: unknown][] = [
  ['path', '/v1/push-ws'],
  ['name', 'feed'],
  ['redisPrefix', 'app1:push:'],
  ['tickets', true],
  ['origins', ['https://app.example.com', 'http://localhost:3000', 'null', '*', 'capacitor://localhost']],
  ['publishTimeout', 10],
  ['slowConsumer', 'drop'],
  ['noteRejected', false],
  ['heartbeat', { interval: 20, timeout: 20 }],
  ['drain', { delay: 0, window: 0, timeout: 1 }],
]

for (const [name, value] of GIVEN) {
  test(`option ${name} is taken`, () => {
    assert.deepEqual(parseOptions({ ...PATH, [name]: value })[name], value)
  })
}

const LIMITS = Object.keys(DEFAULTS.limits)

/** What is wrong, and what the error says of it: the path first, then what to write. */
const WRONG: [given: object, message: RegExp][] = [
  [{ path: undefined }, /option path is missing: write for example path: "\/ws"$/],
  [{ path: 'ws' }, /option path must match .*for example "\/ws"; required\)$/],
  [{ path: '/ws/' }, /option path must match .*for example "\/ws"/],
  [{ path: '/' }, /option path must match .*for example "\/ws"/],
  [{ path: '/ws/*' }, /option path must match .*for example "\/ws"/],
  [{ path: '/:id' }, /option path must match .*for example "\/ws"/],
  [{ path: 7 }, /option path must be string .*for example "\/ws"/],
  [{ name: 'a b' }, /option name must match .*name of the decorator.*default "push"\)$/],
  [{ name: 7 }, /option name must be string .*name of the decorator/],
  [{ redisPrefix: '{push}:' }, /option redisPrefix must match .*without braces and white space; default "push:"\)$/],
  [{ redisPrefix: '' }, /option redisPrefix must match/],
  [{ redisPrefix: 'push*' }, /option redisPrefix must match/],
  [{ tickets: 'yes' }, /option tickets must be boolean .*\?ticket=.*default false\)$/],
  [{ origins: 'https://x' }, /option origins must be array .*such as "https:\/\/app.example.com"/],
  [{ origins: ['app.example.com'] }, /option origins\.0 must match .*such as "https:\/\/app.example.com"/],
  [{ origins: ['https://x', 'https://x/path'] }, /option origins\.1 must match/],
  [
    { origins: ['https://*.example.com'] },
    /option origins has "https:\/\/\*\.example\.com", but origins have no wildcards: list each of them, or only "\*"/,
  ],
  [
    { origins: ['https://x', 'https://App.Example.com'] },
    /option origins has "https:\/\/App\.Example\.com", which no browser sends: write "https:\/\/app\.example\.com"$/,
  ],
  [{ origins: ['https://app.example.com:443'] }, /which no browser sends: write "https:\/\/app\.example\.com"$/],
  [{ origins: ['http://app.example.com:080'] }, /which no browser sends: write "http:\/\/app\.example\.com"$/],
  [{ origins: ['https://me@app.example.com'] }, /which no browser sends: write "https:\/\/app\.example\.com"$/],
  [
    { origins: ['https://x:99999'] },
    /option origins has "https:\/\/x:99999", which is not an origin: write for example /,
  ],
  [{ publishTimeout: 9 }, /option publishTimeout must be >= 10 .*in milliseconds; default 2000\)$/],
  [{ publishTimeout: '2s' }, /option publishTimeout must be integer/],
  [{ publishTimeout: Number.POSITIVE_INFINITY }, /option publishTimeout must be /],
  [{ slowConsumer: 'keep' }, /option slowConsumer must be .*"close" \(4503\) or "drop".*default "close"\)$/],
  [{ noteRejected: 0 }, /option noteRejected must be boolean .*default true\)$/],
  [{ heartbeat: 25 }, /option heartbeat must be object/],
  [{ heartbeat: null }, /option heartbeat must be object/],
  [{ heartbeat: { interval: 19 } }, /option heartbeat\.interval must be >= 20 .*in milliseconds; default 25000\)$/],
  [{ heartbeat: { timeout: 2 ** 31 } }, /option heartbeat\.timeout must be <= 2147483647 .*default 10000\)$/],
  [{ heartbeat: { intervall: 1 } }, /heartbeat: unknown key "intervall": did you mean "interval"\?$/],
  [{ limits: [] }, /option limits must be object/],
  [{ limits: { buffers: 1 } }, /limits: unknown key "buffers": did you mean "buffer"\?$/],
  ...LIMITS.map((name): [object, RegExp] => [
    { limits: { [name]: 0 } },
    new RegExp(`option limits\\.${name} must be >= 1 \\(.*default \\d+\\)$`),
  ]),
  ...LIMITS.map((name): [object, RegExp] => [
    { limits: { [name]: 1.5 } },
    new RegExp(`option limits\\.${name} must be integer`),
  ]),
  [{ drain: { delay: -1 } }, /option drain\.delay must be >= 0 .*default 0\)$/],
  [{ drain: { window: -1 } }, /option drain\.window must be >= 0 .*default 5000\)$/],
  [{ drain: { timeout: 0 } }, /option drain\.timeout must be >= 1 .*default 5000\)$/],
  [{ redis: undefined }, /option redis is there but empty: REDIS_URL not set\? Pass false for one node without Redis$/],
  [{ redis: null }, /option redis is there but empty: REDIS_URL not set\?/],
  [{ redis: '' }, /option redis is there but empty: REDIS_URL not set\?/],
  [{ redis: 'localhost:6379' }, /option redis must be a URL such as "redis:\/\/127.0.0.1:6379"$/],
  [{ redis: 'http://localhost' }, /option redis must be a URL such as/],
  [{ redis: 'unix://run/redis.sock' }, /option redis must be a URL such as/],
  [{ redis: 6379 }, /option redis must be a URL, ioredis options, a client, true for @fastify\/redis, or false$/],
  [{ redis: () => {} }, /option redis must be a URL, ioredis options, a client/],
  [{ redis: ['redis://a'] }, /option redis must be a URL, ioredis options, a client/],
  ...['authenticate', 'authorize', 'onConnect', 'onDisconnect', 'onBinary'].map((name): [object, RegExp] => [
    { [name]: {} },
    new RegExp(`option ${name} must be a function$`),
  ]),
  [{ schemas: [] }, /option schemas must be an object$/],
  [{ clientPublications: ['chat'] }, /option clientPublications must be an object$/],
  [{ clientPublications: { a: null } }, /option clientPublications\["a"\] must be \{ schema \} or \{ schema, rate \}$/],
  [{ clientPublications: { a: { rate: 1 } } }, /clientPublications\["a"\] must be \{ schema \}/],
  [
    { clientPublications: { a: { schema: {}, rate: 0 } } },
    /clientPublications\["a"\]\.rate must be >= 1 \(publications/,
  ],
  [{ clientPublications: { a: { schema: {}, raet: 1 } } }, /clientPublications\["a"\]: unknown key "raet": did you/],
  [{ clientPublications: { gap: { schema: {} } } }, /clientPublications\["gap"\] cannot be: type is reserved/],
  [{ clientPublications: { 'a b': { schema: {} } } }, /clientPublications\["a b"\] cannot be: .*A-Z a-z 0-9/],
  [{ handlers: 'x' }, /option handlers must be an object$/],
  [
    { handlers: { a: null } },
    /option handlers\["a"\] must be \{ schema, handler\(payload, connection\) \}, or \{ schema, worker \}$/,
  ],
  [
    { handlers: { a: () => {} } },
    /option handlers\["a"\] must be \{ schema, handler\(payload, connection\) \}, or \{ schema, worker \}$/,
  ],
  [{ handlers: { a: { schema: null, handler() {} } } }, /option handlers\["a"\] must be \{ schema, handler/],
  [{ handlers: { ping: { schema: {}, handler() {} } } }, /handlers\["ping"\].*reserved/],
  [{ handlers: { 'a b': { schema: {}, handler() {} } } }, /handlers\["a b"\].*A-Z a-z 0-9/],
  [{ schemas: { welcome: {} } }, /schemas\["welcome"\].*reserved/],
  [{ api: true }, /option api must be an object$/],
  [{ api: {} }, /option api needs keys or onRequest: the push API is never open to everybody by default$/],
  [{ api: { keys: undefined } }, /option api needs keys or onRequest/],
  [{ api: { path: '/push' } }, /option api needs keys or onRequest/],
  [{ api: { key: ['a'] } }, /api: unknown key "key": did you mean "keys"\?$/],
  [{ api: { keys: [] } }, /option api\.keys must not have fewer than 1 items/],
  [{ api: { keys: [undefined] } }, /option api\.keys\.0 must be a string or \{ key, topics, actions \}$/],
  [{ api: { keys: ['a', ''] } }, /option api\.keys\.1 is empty: write a secret of 16 characters or more$/],
  [{ api: { keys: [{ topics: 'all', actions: ['publish'] }] } }, /option api\.keys\.0 has no key: write \{ key, /],
  [
    { api: { keys: [{ key: 'a', topics: 'x', actions: [] }] } },
    /option api\.keys\.0 cannot be used: topics: "x" is no/,
  ],
  [{ api: { keys: [{ key: 'a', topic: 'all' }] } }, /cannot be used: unknown key "topic": did you mean "topics"\?$/],
  [{ api: { keys: 'secret' } }, /option api\.keys must be array/],
  [{ api: { keys: ['a'], path: 'push' } }, /option api\.path must match .*default "\/push"\)$/],
  [{ api: { onRequest: 'x' } }, /option api\.onRequest must be a function$/],
  [
    { prefix: '/v1' },
    /option prefix is an option of Fastify itself .*write path: "\/v1\/ws".*redisPrefix for the names in Redis$/,
  ],
  [{ limit: {} }, /unknown key "limit": did you mean "limits"\?$/],
  [{ authentication: () => {} }, /unknown key "authentication": known are path, name, redisPrefix, /],
]

for (const [given, message] of WRONG) {
  const title = JSON.stringify(given, (_, value) =>
    typeof value === 'function' ? 'function' : (value ?? String(value)),
  )
  test(`refused: ${title}`, () => {
    assert.throws(() => parseOptions({ ...PATH, ...given }), { code: 'PUSH_ERR_OPTIONS', message })
  })
}

test('options that are no object are refused like wrong ones', () => {
  for (const given of [undefined, null, {}, '/ws', 7, () => {}]) {
    assert.throws(() => parseOptions(given), { code: 'PUSH_ERR_OPTIONS' }, String(given))
  }
})

test('redis: what it may be', t => {
  const client = new Redis({ lazyConnect: true })
  t.after(() => client.disconnect())
  for (const redis of [
    'redis://a',
    'rediss://a:6379/1',
    'valkey://a',
    'unix:///run/redis.sock',
    '/run/redis.sock',
    true,
    false,
    { host: 'a' },
    client,
  ]) {
    assert.equal(parseOptions({ ...PATH, redis }).redis, redis)
  }
  assert.equal(parseOptions(PATH).redis, false)
})

/** Where a client made of `url` would connect to; it does not. */
function destination(url: string): object {
  const { host, port, path, username, password, db, tls } = createClient(url, 'test').options
  return path === undefined ? { host, port, username, password, db, tls } : { path, db }
}

test('redis: a URL of any scheme that is taken names the server that stands in it', () => {
  for (const rest of ['://me:hunter2@cache.example:7000/3', 's://cache.example']) {
    assert.deepEqual(destination(`valkey${rest}`), destination(`redis${rest}`))
    assert.equal(identityOf(`valkey${rest}`), identityOf(`redis${rest}`))
  }
  assert.deepEqual(destination('valkeys://me:hunter2@cache.example:7000'), {
    host: 'cache.example',
    port: 7000,
    username: 'me',
    password: 'hunter2',
    db: 0,
    // Node does not tell the server its name otherwise.
    tls: { servername: 'cache.example' },
  })
  assert.deepEqual(destination('unix:///run/redis.sock?db=2'), { path: '/run/redis.sock', db: 2 })
  assert.equal(identityOf('unix:///run/redis.sock'), identityOf('/run/redis.sock'))
})

test('callbacks, schemas and handlers are handed on as they are', () => {
  const authenticate = () => null
  const schemas = { a: Type.Null() }
  const handlers = { b: clientHandler(Type.String(), text => text.length) }
  const parsed = parseOptions({ ...PATH, authenticate, schemas, handlers })
  assert.deepEqual(parsed.callbacks, { authenticate })
  assert.equal(parsed.schemas, schemas)
  assert.equal(parsed.handlers, handlers)
})

test('api: keys or a guard of the host’s own', () => {
  const onRequest = () => {}
  assert.deepEqual(parseOptions({ ...PATH, api: { keys: ['k'] } }).api, {
    path: '/push',
    keys: ['k'],
    rate: 1000,
    page: false,
    onRequest: undefined,
  })
  assert.equal(parseOptions({ ...PATH, api: { keys: ['k'], rate: 5 } }).api?.rate, 5)
  for (const [api, message] of [
    [{ keys: ['k'], rate: 0 }, /option api\.rate must be >= 1/],
    [{ onRequest, rate: 5 }, /option api\.rate is that of each key: limit the rate in onRequest/],
  ] as const) {
    assert.throws(() => parseOptions({ ...PATH, api }), { message })
  }
  assert.equal(parseOptions({ ...PATH, api: { keys: ['k'], page: true } }).api?.page, true)
  const guarded = { path: '/p', keys: [], rate: 1000, page: false, onRequest }
  assert.deepEqual(parseOptions({ ...PATH, api: { onRequest, path: '/p' } }).api, guarded)
})

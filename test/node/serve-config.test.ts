import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createServer } from '../../src/cli.ts'
import { usedSettings } from '../../src/node/serve-check.ts'
import { parseConfig, readConfig } from '../../src/node/serve-config.ts'
import { registerOptions } from '../../src/node/serve-options.ts'
import { configPath, readFlags, readSettings, type ServeSettings } from '../../src/node/serve-settings.ts'
import { openConnection } from '../helpers/app.ts'
import { path, run, temporaryFolder } from '../helpers/processes.ts'
import { START, within } from '../helpers/waiting.ts'

const REDIS = 'redis://me:hidden-1@redis.internal:6379'

function settingsOf(config: object, env: Record<string, string> = {}, args: string[] = []): ServeSettings {
  return readSettings(['serve', ...args], env, parseConfig(config)) as ServeSettings
}

function write(t: TestContext, name: string, text: string): string {
  const file = join(temporaryFolder(t), name)
  writeFileSync(file, text)
  return file
}

test('a flag wins over the environment, the environment over the file, the file over the default', () => {
  const config = { redis: REDIS, port: 1, host: '127.0.0.2', path: '/file', logLevel: 'warn', redisPrefix: 'file:' }
  const env = { WS_PATH: '/env', LOG_LEVEL: 'debug', HOST: '' }
  const { port, host, path, logLevel, prefix, redis, handshake } = settingsOf(config, env, ['--log-level', 'error'])
  assert.deepEqual(
    { port, host, path, logLevel, prefix, redis, handshake },
    { port: 1, host: '127.0.0.2', path: '/env', logLevel: 'error', prefix: 'file:', redis: REDIS, handshake: 10_000 },
  )
  assert.equal(settingsOf(config, { REDIS_URL: 'redis://env' }).redis, 'redis://env')
  assert.equal(settingsOf(config, {}, ['--redis', 'redis://flag']).redis, 'redis://flag')
  const sentinels = { REDIS_SENTINELS: 'a:1', REDIS_SENTINEL_NAME: 'm' }
  assert.deepEqual(settingsOf(config, sentinels).redis, { sentinels: ['a:1'], name: 'm' })
  assert.equal(settingsOf(config, {}, ['--dev', '--host', '127.0.0.1']).redis, undefined)
  assert.equal(settingsOf({ redis: false }).redis, false)
})

test('the rest of the file is what register gets, and what has a secret may leave it to the environment', () => {
  const history = { 'channel:log': { size: 10, ttl: 60 } }
  const config = {
    redis: { url: 'redis://redis.internal' },
    history,
    limits: { connections: 7, handshake: 500 },
    drain: { window: 0 },
    revocation: { ttl: 120 },
    origins: ['https://a.example', 'https://b.example'],
    presence: { users: true },
    compression: true,
    health: { path: '/health' },
    events: { http: { url: 'https://backend.example/push', connect: true } },
    api: { keys: [{ key: 'a key of the file', topics: 'channel:*', actions: ['publish'] }] },
    jwt: { secret: 'x'.repeat(32) },
    trustProxy: '10.0.0.0/8',
  }
  const env = { REDIS_PASSWORD: 'pw', BACKEND_SECRET: 's1,s2', PUSH_API_KEY: 'a key of the environment' }
  const settings = settingsOf(config, env)
  const options = registerOptions(settings, { tickets: true })
  assert.deepEqual(options.redis, { url: 'redis://redis.internal', password: 'pw' })
  assert.deepEqual(options.limits, { connections: 7, handshake: 500 })
  assert.deepEqual([options.history, options.drain, options.compression], [history, { window: 0 }, true])
  assert.deepEqual([options.origins, options.revocation], [config.origins, { ttl: 120 }])
  assert.deepEqual(options.events?.http, { ...config.events.http, secret: ['s1', 's2'] })
  assert.deepEqual(options.api?.keys, [...config.api.keys, 'a key of the environment'])
  assert.deepEqual(options.health, { details: true, path: '/health' })
  assert.deepEqual([settings.trustProxy, settings.jwt?.secret], ['10.0.0.0/8', 'x'.repeat(32)])
  const rate = registerOptions(settingsOf({ redis: REDIS, api: { rate: 5 } }, env), {}).api
  assert.deepEqual(rate, { path: '/push', rate: 5, keys: ['a key of the environment'] })
  assert.equal(settingsOf(config, { ...env, JWT_SECRET: 'y'.repeat(32) }).jwt?.secret, 'y'.repeat(32))
})

const WRONG: [config: unknown, message: RegExp][] = [
  [[], /must have an object/],
  [{ histroy: {} }, /unknown key "histroy": did you mean "history"\?/],
  [{ limits: { conections: 1 } }, /limits: unknown key "conections": did you mean "connections"\?/],
  [{ prot: 1 }, /unknown key "prot": did you mean "port"\?/],
  [{ port: 'http' }, /option port must be integer \(port to listen on\)/],
  [{ jwt: { secrets: 'x' } }, /jwt: unknown key "secrets": did you mean "secret"\?/],
  [{ metrics: true }, /option metrics must be object \(such as/],
  [{ origins: 'https://a.example' }, /option origins must be array/],
  [{ redis: true }, /option redis cannot be true here/],
  [{ history: { 'channel:*': 5 } }, /option history/],
]

for (const [config, message] of WRONG) {
  test(`wrong in a file: ${JSON.stringify(config)}`, () => {
    assert.throws(() => parseConfig(config), { message })
  })
}

test('a file that cannot be read says so, with its name', async t => {
  const cases: [name: string, text: string, message: RegExp][] = [
    ['push.json', '{"port":', /^push\.json: is not JSON: \w[^{]*$/],
    ['push.json', '{\n "password": hunter2 }', /^push\.json: is not JSON: (?!.*hunter)\w/],
    ['push.yaml', 'port: 1', /^push\.yaml: must end in \.json, \.js or \.mjs$/],
    ['push.mjs', 'export const port = 1', /^push\.mjs: has no default export: write export default/],
    ['broken.mjs', 'throw new Error("on purpose")', /^broken\.mjs: on purpose$/],
    ['huge.json', ' '.repeat(4 * 1024 * 1024 + 1), /^huge\.json: has 4194305 bytes/],
  ]
  for (const [name, text, message] of cases) await assert.rejects(readConfig(write(t, name, text)), { message })
  await assert.rejects(readConfig('/none/push.json'), { message: /^push\.json: ENOENT/ })
  assert.equal(configPath(['serve', '--config', 'a'], { PUSH_CONFIG: 'b' }), 'a')
  assert.equal(configPath(['serve', '--port', '1'], { PUSH_CONFIG: 'b' }), 'b')
})

test('hooks of a file decide who connects, and its rules record', async t => {
  const file = write(
    t,
    'push.mjs',
    `export default {
      redis: false,
      port: 0,
      logLevel: 'fatal',
      history: { 'channel:log': { size: 10, ttl: 60 } },
      authenticate: ({ headers }) => (headers.cookie === 'session=ann' ? { user: 'ann' } : null),
      authorize: (_connection, topic) => topic === 'channel:log',
    }`,
  )
  const settings = readSettings(['serve'], {}, await readConfig(file)) as ServeSettings
  const app = await createServer(settings)
  t.after(() => within(app.close(), 'the end of serve'))
  await assert.rejects(openConnection(app, '/ws'), /401/)
  const connection = await openConnection(app, '/ws/log', { headers: { cookie: 'session=ann' } })
  assert.equal(connection.welcome.user, 'ann')
  assert.equal((await app.push.publish('channel:log', { type: 'n' as never })).seq, 1)
  const both = readSettings(['serve'], { JWT_SECRET: 'x'.repeat(32) }, await readConfig(file)) as ServeSettings
  await assert.rejects(createServer(both), { message: /both say who connects: leave out one of them/ })
})

test('what would be used, with where it comes from and without a secret', () => {
  const config = {
    redis: REDIS,
    limits: { connections: 7 },
    api: { keys: ['hidden-2-and-more'] },
    events: {
      http: { url: 'https://backend.example/push?token=hidden-4', secret: ['hidden-5-of-sixteen'], message: ['chat'] },
    },
    jwt: { secret: `hidden-6${'x'.repeat(32)}` },
    authorize: () => true,
    schemas: { 'order.created': { type: 'object' } },
  }
  const args = ['--path', '/live']
  const env = { LOG_LEVEL: 'warn', PUSH_API_KEY: 'hidden-7-and-more' }
  const settings = settingsOf(config, env, args)
  const given = { flags: readFlags(['serve', ...args]).values, env }
  const rows = usedSettings(settings, registerOptions(settings, { tickets: true }), given)
  const row = (name: string) => {
    const { value, from } = rows.find(({ setting }) => setting === name)!
    return [value, from]
  }
  assert.deepEqual(row('path'), ['/live', 'flag'])
  assert.deepEqual(row('logLevel'), ['warn', 'environment'])
  assert.deepEqual(row('limits.connections'), ['7', 'file'])
  assert.deepEqual(row('limits.topics'), ['128', 'default'])
  assert.deepEqual(row('redis'), ['redis://…@redis.internal:6379', 'file'])
  assert.deepEqual(row('api.keys'), ['2 that are not shown', 'environment'])
  assert.deepEqual(row('jwt.secret'), ['not shown', 'file'])
  assert.deepEqual(row('authorize'), ['a function', 'file'])
  assert.deepEqual(row('schemas'), ['["order.created"]', 'file'])
  assert.doesNotMatch(JSON.stringify(rows), /hidden/)
  // Bytes of a private key are not shown either, one by one or as a whole.
  const tls = { key: Buffer.from('hidden-8'), ca: Buffer.from('an authority'), passphrase: 'hidden-9' }
  const url = { url: 'rediss://redis.internal', password: 'hidden-10', tls }
  const secure = settingsOf({ redis: url })
  const all = usedSettings(secure, registerOptions(secure, { tickets: true }), given)
  const redis = all.filter(({ setting }) => setting.startsWith('redis.')).map(({ setting, value }) => [setting, value])
  assert.deepEqual(redis, [
    ['redis.url', 'rediss://redis.internal'],
    ['redis.password', 'not shown'],
    ['redis.tls.key', 'not shown'],
    ['redis.tls.ca', '12 bytes'],
    ['redis.tls.passphrase', 'not shown'],
  ])
  const broken = settingsOf({ redis: REDIS, schemas: { a: { $ref: '#/none', type: 5 } }, events: { http: {} } })
  assert.throws(() => usedSettings(broken, registerOptions(broken, {}), given), { message: /events/ })
})

test('passwords and TLS of the environment complete an object, and nothing is sent in plain text for want of an s', () => {
  const env = { REDIS_TLS: '1', REDIS_PASSWORD: 'pw', REDIS_SENTINEL_PASSWORD: 'spw' }
  const sentinels = { sentinels: ['a:1'], name: 'm', username: 'node' }
  assert.deepEqual(settingsOf({ redis: sentinels }, env).redis, {
    ...sentinels,
    password: 'pw',
    sentinelPassword: 'spw',
    tls: {},
    sentinelTLS: {},
  })
  assert.deepEqual(settingsOf({ redis: { url: 'rediss://h', username: 'n' } }, env).redis, {
    url: 'rediss://h',
    username: 'n',
    password: 'pw',
    tls: {},
  })
  assert.throws(() => settingsOf({ redis: { url: 'redis://h' } }, env), /nothing would be encrypted/)
})

test('the environment wins over the file also where it says no, and with a secret', () => {
  const config = {
    redis: REDIS,
    api: { keys: ['a key of the file of many letters'], page: true },
    events: { http: { url: 'https://backend.example/push', connect: true, secret: ['old'] } },
  }
  const used = (env: Record<string, string>) => registerOptions(settingsOf(config, env), {})
  assert.equal(used({}).api?.page, true)
  assert.equal(used({ PAGE: '0' }).api?.page, false)
  assert.deepEqual(used({ BACKEND_SECRET: 'new' }).events?.http?.secret, ['new'])
})

test('what the environment says of a backend goes over what the file says, one by one', () => {
  const http = {
    url: 'https://backend.example/push',
    connect: true,
    headers: ['cookie'],
    concurrency: 5,
    secret: 'old',
  }
  const eventsWith = (env: Record<string, string>, events: object = { http, queue: { count: 7 } }) =>
    settingsOf({ redis: REDIS, events }, env).events
  assert.deepEqual(eventsWith({}), { http, queue: { count: 7 } })
  const called = eventsWith({ BACKEND_CALLS: 'subscribe', BACKEND_TIMEOUT: '500' })
  assert.deepEqual(called?.http, { ...http, connect: false, subscribe: true, timeout: 500 })
  assert.deepEqual(called?.queue, { count: 7 })
  const moved = eventsWith({ BACKEND_URL: 'https://other.example/', BACKEND_SECRET: 'new' })
  assert.deepEqual(moved?.http, { ...http, url: 'https://other.example/', secret: ['new'] })
  const stream = { name: 'events:shop', maxLength: 9 }
  const kinds = eventsWith({ EVENTS_KINDS: 'message' }, { stream })
  assert.deepEqual(kinds?.stream, { ...stream, include: ['message'] })
  const messages = eventsWith({ EVENTS_MESSAGES: 'chat.*' }, { stream })
  assert.deepEqual(messages, { stream, messages: ['chat.*'] })
})

test('no form of a URL shows a password', () => {
  for (const url of [
    'redis://:p@ss-hidden@h',
    'redis://:a"hidden@h',
    'redis://:my hidden@h',
    'redis://u:hidden@h:6379/1',
  ]) {
    const settings = settingsOf({ redis: url })
    const rows = usedSettings(settings, registerOptions(settings, {}), { flags: {}, env: {} })
    const shown = rows.find(({ setting }) => setting === 'redis')?.value
    assert.match(shown ?? '', /^redis:\/\/…@h/)
    assert.doesNotMatch(JSON.stringify(rows), /hidden/)
  }
})

test('serve --check as a process: 0 with a table, 1 with what is wrong, 2 for what is not understood', async t => {
  const file = write(t, 'push.json', JSON.stringify({ redis: REDIS, metrics: { path: '/metrics' }, port: 4711 }))
  const env = { REDIS_URL: '', PUSH_CONFIG: '' }
  const check = (args: string[]) =>
    run(process.execPath, ['--import', 'tsx', path('src/cli.ts'), 'serve', '--check', ...args], { env }, START)
  const [well, before, wrong, strange] = await Promise.all([
    check(['--config', file]),
    run(
      process.execPath,
      ['--import', 'tsx', path('src/cli.ts'), '--config', file, 'serve', '--check', '--log-level', 'loud'],
      { env },
      START,
    ),
    check(['--config', write(t, 'push.json', '{"redis":"redis://a","drian":{}}'), '--json']),
    check(['--cofnig', file]),
  ])
  assert.equal(well.code, 0, well.stderr)
  assert.match(well.stdout, /^setting +value +from\nport +4711 +file\n/)
  assert.match(well.stdout, /\nmetrics\.path +\/metrics +file\n/)
  assert.doesNotMatch(well.stdout, /hidden/)
  assert.deepEqual([before.code, before.stdout], [1, ''], 'it is looked at wherever the word stands')
  assert.match(before.stderr, /loud/)
  assert.deepEqual([wrong.code, wrong.stdout], [1, ''])
  assert.match(wrong.stderr, /^push\.json: unknown key "drian": did you mean "drain"\?/)
  assert.equal(strange.code, 2)
})

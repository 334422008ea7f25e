import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import { WebSocketServer } from 'ws'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { EXIT } from '../../src/terminal/run.ts'
import { openSockets } from '../../src/terminal/socket.ts'
import { buildPush } from '../helpers/app.ts'
import { cleanups, path, run as runProcess } from '../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { commands } from '../helpers/terminal.ts'
import { once, PATIENCE, START, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer
let prefixes = 0

before(async () => {
  redis = await startRedis(all)
})

after(() => all.end())

async function build(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const redisPrefix = `tail${++prefixes}:`
  const { app, port } = await buildPush(t, {
    redis: redis.url,
    redisPrefix,
    publishTimeout: PATIENCE,
    tickets: true,
    authenticate: ({ headers }) =>
      headers.authorization === 'Bearer let-me' ? { user: 'me', allow: ['channel:*'] } : null,
    ...options,
  })
  /** The connection that has the topic, once there is one. */
  const has = async (topic: Topic, milliseconds = PATIENCE) => {
    await until(() => [...app.push.connections.of(topic)].length === 1, `a connection on ${topic}`, milliseconds)
    const isHeard = async () => Number((await redis.admin.pubsub('NUMSUB', redisPrefix + topic))[1]) === 1
    await until(isHeard, `Redis sends ${topic} to the node`)
    return [...app.push.connections.of(topic)][0]!
  }
  const line = (rest: string) => `subscribe ${rest} --url ws://127.0.0.1:${port}/ws`
  return { app, line, has, redisPrefix, ...commands({ redis: redis.url, redisPrefix }) }
}

test('subscribe: makes itself a ticket, prints each message, and ends after so many', async t => {
  const { app, start, line, has } = await build(t)
  const { done } = start(line('channel:a user:42 --count 2 --json'))
  for (const topic of ['channel:a', 'user:42'] as const) await has(topic)
  await app.push.publish('channel:a', { type: 'n' as never, payload: { x: 1 } as never })
  await app.push.publish('user:42', { type: 'm' as never })
  const { code, out, err } = await within(done, 'the end after two messages')
  assert.equal(code, EXIT.done, err)
  const messages = out
    .trimEnd()
    .split('\n')
    .map(it => JSON.parse(it))
  assert.deepEqual(
    messages.map(({ topic, type, payload }) => [topic, type, payload]),
    [
      ['channel:a', 'n', { x: 1 }],
      ['user:42', 'm', {}],
    ],
  )
  assert.match(err, /^connected to node \S+\n$/)
})

test('subscribe: it is no client that handles messages, so it acknowledges none', async t => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  t.after(() => server.close())
  await once(server, 'listening')
  const heard = new Promise<string>(resolve => {
    server.on('connection', socket => socket.once('message', data => resolve(String(data))))
  })
  const sockets = openSockets()
  t.after(() => sockets.end())
  const socket = new sockets.WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  await once(socket, 'open')
  for (const type of ['ack', 'ping']) socket.send(JSON.stringify({ type, payload: { token: 'x' } }) as never)
  assert.match(await within(heard, 'the first message'), /"ping"/)
})

test('subscribe: what was recorded first, by --last and --since, for people', async t => {
  const { app, run, line } = await build(t, { history: { 'channel:log': { size: 10, ttl: 60 } } })
  const ids: string[] = []
  for (const n of [1, 2, 3])
    ids.push((await app.push.publish('channel:log', { type: 'entry' as never, payload: n as never })).id!)
  const since = await run(line(`channel:log --since ${ids[0]} --count 2`))
  assert.match(since.out, /^\d\d:\d\d:\d\d {2}channel:log {2}entry {2}2 {2}#2 \S+\n.* {2}entry {2}3 {2}#3 \S+\n$/)
  const last = await run(line('channel:log --last 1 --count 1'))
  assert.equal(last.out.slice(10), `channel:log  entry  3  #3 ${ids[2]}\n`)
})

test('subscribe: comes back when the connection is lost, with a new ticket, and Ctrl-C is a clean end', async t => {
  const { app, start, line, has } = await build(t)
  const { said, end, done } = start(line('channel:a'))
  const connection = await has('channel:a')
  connection.close(1012, 'restart')
  await until(
    () => said.err.includes('disconnected (1012 restart)'),
    () => said.err,
  )
  await until(() => !app.push.connections.get(connection.id), 'the end of the first connection')
  const again = await has('channel:a')
  assert.notEqual(again.id, connection.id)
  end()
  assert.deepEqual(await within(done, 'the end'), { code: EXIT.done, out: '', err: said.err })
})

test('subscribe: a server that closes with 1000 is the end, and what steers a terminal is escaped', async t => {
  const { app, start, line, has } = await build(t)
  const { said, done } = start(line('channel:a --json'))
  const connection = await has('channel:a')
  await app.push.publish('channel:a', { type: 'n' as never, payload: 'x\u009b31m' as never })
  await until(() => said.out.includes('31m'), 'the message')
  assert.ok(said.out.includes('x\\u009b31m'))
  connection.close(1000)
  assert.equal((await within(done, 'the end')).code, EXIT.failed)
})

test('subscribe: a token instead of a ticket, which is nowhere in what it prints', async t => {
  const { app, start, line, has } = await build(t)
  const { done } = start(`${line('channel:a --count 1')} --token let-me`)
  assert.equal((await has('channel:a')).user, 'me')
  await app.push.publish('channel:a', { type: 'n' as never })
  const { code, out, err } = await within(done, 'the end')
  assert.equal(code, EXIT.done)
  assert.match(err, /^connected to node \S+ as me\n$/)
  assert.doesNotMatch(out + err, /let-me/)
})

const WRONG: [rest: string, code: number, message: RegExp][] = [
  ['', EXIT.usage, /^something is missing\nusage: fastify-push-bridge subscribe TOPIC/],
  ['channel:a --token no', EXIT.failed, /^the server refused the connection: 401 PUSH_ERR_UNAUTHENTICATED /],
  ['channel:a --ticket 0123456789abcdef0123', EXIT.failed, /401 .*: a ticket can be used once/],
  ['connection:x', EXIT.failed, /PUSH_ERR_/],
  ['channel:a --last 0', EXIT.usage, /^--last is 0: it must be a whole number from 1 to 100/],
  ['channel:a channel:b --since x', EXIT.usage, /^--since is a place in one topic/],
  ['channel:a --ticket x --token y', EXIT.usage, /keep one of them/],
]

for (const [rest, expected, message] of WRONG) {
  test(`subscribe, wrong: ${rest || 'no topic'}`, async t => {
    const { run, line } = await build(t)
    const { code, out, err } = await within(run(rest ? line(rest) : 'subscribe'), 'the end')
    assert.deepEqual([code, out], [expected, ''], err)
    assert.match(err, message)
    assert.doesNotMatch(err, /0123456789abcdef0123/)
  })
}

test('subscribe: without Redis it says what else there is, and where nobody answers it ends', async () => {
  const { run } = commands(undefined)
  const { code, err } = await run('subscribe channel:a')
  assert.equal(code, EXIT.usage)
  assert.match(err, /^REDIS_URL \(--redis\) is not set, so no ticket can be made: set it, or give --ticket/)
  const port = await freePort()
  const away = await within(
    run(`subscribe channel:a --anonymous --url ws://127.0.0.1:${port}/ws?ticket=sesame`),
    'the end',
  )
  assert.equal(away.code, EXIT.failed)
  assert.match(away.err, new RegExp(`^ws://127\\.0\\.0\\.1:${port}/ws does not answer, 3 attempts: `))
  assert.doesNotMatch(away.err, /sesame/)
})

test('subscribe as a process: lines for programs, and a reader that goes ends it', async t => {
  const { app, line, has, redisPrefix } = await build(t, { history: { 'channel:log': { size: 100, ttl: 60 } } })
  for (let i = 0; i < 100; i++) await app.push.publish('channel:log', { type: 'n' as never, payload: i as never })
  const command = `"${process.execPath}" --import tsx "${path('src/cli.ts')}" ${line('channel:log --last 3 --json')} | head -n 1`
  const env = { REDIS_URL: redis.url, REDIS_PREFIX: redisPrefix }
  const running = runProcess('sh', ['-c', command], { env }, START)
  await has('channel:log', START)
  let published = 100
  let isOver = false
  const ended = running.finally(() => {
    isOver = true
  })
  // Who has gone is noticed with the next line.
  await until(async () => {
    await app.push.publish('channel:log', { type: 'n' as never, payload: published++ as never })
    return isOver
  }, 'the end of the command')
  const { stdout } = await ended
  // Some may have been published before the three newest were read.
  assert.ok(JSON.parse(stdout).payload >= 97, stdout)
})

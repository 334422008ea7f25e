import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { createClient } from '../../../src/broker/redis/client.ts'
import { CommandLink } from '../../../src/broker/redis/commands.ts'
import { Functions } from '../../../src/broker/redis/functions.ts'
import { Refusals } from '../../../src/broker/redis/refusals.ts'
import { errors } from '../../../src/protocol/errors.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'

const SOURCE = readFileSync(new URL('../../../src/broker/redis/push.lua', import.meta.url), 'utf8')
const TIMEOUT = 20_000
const CHANNEL = 'push:channel:x'

interface Credentials {
  username?: string
  password?: string
}

function link(t: TestContext, server: RedisServer, credentials: Credentials = {}) {
  const source = { host: '127.0.0.1', port: server.port, ...credentials }
  const commands = new CommandLink(createClient(source, 'test'), () => {})
  t.after(() => commands.close())
  return { commands, functions: new Functions(commands) }
}

const publish = (functions: Functions, ...more: string[]) =>
  functions.run(
    [{ name: 'push_publish', keys: [CHANNEL], args: ['{"type":"n"}', 10, 60, ...more] }],
    TIMEOUT,
  ) as Promise<[[string, number, number, number] & { code?: string; message?: string }]>

const libraries = async (server: RedisServer) => (await server.admin.call('FUNCTION', 'LIST')) as unknown[]

const loads = async (server: RedisServer, name: string) =>
  Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(await server.admin.info('commandstats'))?.[1] ?? 0)

test('a library that is missing is loaded, and what was asked is answered', async t => {
  const server = await startRedis(t)
  const { functions } = link(t, server)
  const [first] = await publish(functions)
  assert.deepEqual(first.slice(1), [1, 0, 0])
  assert.equal((await libraries(server)).length, 1)
  for (const loss of [['FUNCTION', 'FLUSH'], ['FLUSHALL']] as const) {
    await server.admin.call(loss[0], ...loss.slice(1))
    assert.equal((await publish(functions))[0].code, undefined, loss.join(' '))
  }
  assert.ok(functions.isSupported)
})

test('of a batch only what was not answered is asked again, and answers stay in order', async t => {
  const server = await startRedis(t)
  const { functions } = link(t, server)
  await functions.update(TIMEOUT)
  const call = (n: number) => ({
    name: 'push_publish' as const,
    keys: [CHANNEL],
    args: [JSON.stringify({ type: 'n', payload: n }), 1000, 60],
  })
  const flushed = server.admin.call('FUNCTION', 'FLUSH')
  const [replies] = await Promise.all([
    functions.run(
      Array.from({ length: 200 }, (_, n) => call(n)),
      TIMEOUT,
    ),
    flushed,
  ])
  const kept = (await server.admin.xrange(`{${CHANNEL}}:history`, '-', '+')) as [string, string[]][]
  assert.equal(kept.length, 200)
  const byId = new Map(kept.map(([, [, id, , , , text]]) => [id, JSON.parse(text!).payload]))
  assert.deepEqual(
    replies.map(reply => byId.get((reply as string[])[0])),
    Array.from({ length: 200 }, (_, n) => n),
  )
})

const CURRENT = Number(/^local VERSION = (\d+)$/m.exec(SOURCE)![1])
const version = (n: number) => SOURCE.replace(/^local VERSION = .*$/m, `local VERSION = ${n}`)

test('an older library is replaced, a newer one never, the same one left alone', async t => {
  const server = await startRedis(t)
  const { functions } = link(t, server)
  const current = () => server.admin.call('FCALL', 'push_version', 0)
  await server.admin.call('FUNCTION', 'LOAD', version(CURRENT - 1))
  await functions.update(TIMEOUT)
  assert.equal(await current(), CURRENT)
  const before = await loads(server, 'function\\|load')
  await functions.update(TIMEOUT)
  assert.equal(await loads(server, 'function\\|load'), before)
  await server.admin.call('FUNCTION', 'LOAD', 'REPLACE', version(CURRENT + 1))
  await functions.update(TIMEOUT)
  await publish(functions)
  assert.equal(await current(), CURRENT + 1)
})

test('an older library that lacks a function is replaced when that is called', async t => {
  const server = await startRedis(t)
  const { functions } = link(t, server)
  const older = version(CURRENT - 1).replace(/^.*function_name = 'push_heads'.*$/m, '')
  assert.ok(!older.includes("function_name = 'push_heads'"))
  await server.admin.call('FUNCTION', 'LOAD', older)
  const [heads] = await functions.run([{ name: 'push_heads', keys: [CHANNEL], args: ['0', 1000] }], TIMEOUT)
  assert.equal((heads as unknown[]).length, 2)
  assert.equal(await server.admin.call('FCALL', 'push_version', 0), CURRENT)
})

test('many that find it missing at once load it, and all are answered', async t => {
  const server = await startRedis(t)
  const nodes = [link(t, server), link(t, server), link(t, server)]
  const updating = nodes.map(({ functions }) => functions.update(TIMEOUT))
  const publishing = nodes.flatMap(({ functions }) => [publish(functions), publish(functions)])
  const replies = await Promise.all(publishing)
  await Promise.all(updating)
  assert.deepEqual(
    replies.map(([reply]) => reply[1]).toSorted((a, b) => a - b),
    [1, 2, 3, 4, 5, 6],
  )
})

const forbidden: Record<string, string[]> = {
  'functions and their calls': ['-function', '-fcall'],
  'calls of functions alone': ['-fcall'],
  'functions alone': ['-function'],
}

for (const [what, rules] of Object.entries(forbidden)) {
  test(`a user without ${what} has the script`, async t => {
    const server = await startRedis(t)
    await server.admin.call('ACL', 'SETUSER', 'node', 'on', '>pw', '~*', '&*', '+@all', ...rules)
    const { functions } = link(t, server, { username: 'node', password: 'pw' })
    for (let n = 1; n <= 2; n++) assert.deepEqual((await publish(functions))[0].slice(1), [n, 0, 0])
    await server.admin.script('FLUSH')
    assert.equal((await publish(functions))[0][1], 3)
    assert.ok(functions.isSupported)
  })
}

test('a server where FUNCTION and FCALL have other names has the script', async t => {
  const args = ['--rename-command', 'FUNCTION', '', '--rename-command', 'FCALL', '']
  const server = await startRedis(t, { args })
  const { functions } = link(t, server)
  await functions.update(TIMEOUT)
  for (let n = 1; n <= 2; n++) assert.deepEqual((await publish(functions))[0].slice(1), [n, 0, 0])
  const [head] = (await functions.run([{ name: 'push_heads', keys: [CHANNEL], args: ['0', 1000] }], TIMEOUT)) as [
    unknown[],
  ]
  assert.equal(head[1], 2)
})

test('a user who may load neither is told what is needed', async t => {
  const server = await startRedis(t)
  const rules = ['-function', '-fcall', '-script', '-eval', '-evalsha']
  await server.admin.call('ACL', 'SETUSER', 'node', 'on', '>pw', '~*', '&*', '+@all', ...rules)
  const { functions } = link(t, server, { username: 'node', password: 'pw' })
  const [reply] = await publish(functions)
  assert.equal(reply.code, 'PUSH_ERR_UNSUPPORTED')
  assert.match(reply.message!, /need functions .* or scripts; this server said: NOPERM/)
  assert.equal(functions.isSupported, false)
  // The operator has seen it.
  await server.admin.call('ACL', 'SETUSER', 'node', '+function', '+fcall')
  await functions.update(TIMEOUT)
  assert.equal((await publish(functions))[0][1], 1)
})

test('a refusal is an error of ours, with the code and the sentence once', async t => {
  const server = await startRedis(t)
  const { functions } = link(t, server)
  const refusals: [key: string, envelope: string, code: string, message: string][] = [
    [
      'push:nowhere',
      '{"type":"n"}',
      'PUSH_ERR_TOPIC',
      'the key is not the channel of a topic: write for example push:user:42',
    ],
    [CHANNEL, '{"type":"gap"}', 'PUSH_ERR_RESERVED_TYPE', 'type "gap" is reserved for the protocol: choose another'],
    [CHANNEL, '{"type":"n","%s":1}', 'PUSH_ERR_UNKNOWN_KEY', 'unknown key "%s" in the envelope'],
    [CHANNEL, '{', 'PUSH_ERR_JSON', 'the envelope is broken JSON'],
  ]
  for (const [key, envelope, code, message] of refusals) {
    const [reply] = await functions.run([{ name: 'push_publish', keys: [key], args: [envelope, 1, 1] }], TIMEOUT)
    assert.deepEqual([(reply as { code: string }).code, (reply as Error).message], [code, message])
  }
})

test('a topic to which this user has no right says nothing of the others', async t => {
  const server = await startRedis(t)
  const rights = '~push:* ~{push:channel:x}* &push:* +@all'.split(' ')
  await server.admin.call('ACL', 'SETUSER', 'narrow', 'on', '>secret', 'resetkeys', 'resetchannels', ...rights)
  const { functions } = link(t, server, { username: 'narrow', password: 'secret' })
  const call = (channel: string) => ({
    name: 'push_publish' as const,
    keys: [channel],
    args: ['{"type":"n"}', 10, 60],
  })
  const [refused, taken] = await functions.run([call('push:channel:other'), call(CHANNEL)], TIMEOUT)
  assert.equal((refused as { code: string }).code, 'PUSH_ERR_UNSUPPORTED')
  assert.ok(Array.isArray(taken))
  assert.ok(functions.isSupported)
})

test('every version of Redis says in its own words that a function may not run a command', async () => {
  const refusals = [
    "ERR The user executing the script can't run this command or subcommand script: push_heads, on @user_function:231.",
    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script",
    "ERR ACL failure in script: User node has no permissions to run the 'hmget' command script: push_heads",
    'ERR ACL failure in script: No permissions to access a key script: push_heads, on @user_function:231.',
  ]
  for (const refusal of refusals) {
    const cause = Object.assign(new Error(refusal), { name: 'ReplyError' })
    const commands = { refusals: new Refusals(), run: async () => [new errors.BROKER_AWAY('refused', { cause })] }
    const functions = new Functions(commands as unknown as CommandLink)
    const [reply] = await functions.run([{ name: 'push_heads', keys: [CHANNEL], args: ['0', 1000] }], TIMEOUT)
    assert.equal((reply as { code: string }).code, 'PUSH_ERR_UNSUPPORTED', refusal)
    assert.equal(functions.isSupported, false)
  }
})

import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { createPublisher } from '../../src/publisher.ts'
import { callUsage, EXIT, runCall } from '../../src/terminal/run.ts'
import { table } from '../../src/terminal/table.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { cleanups, path, run } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { PATIENCE, START, until } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})

after(() => all.end())

let prefixes = 0

/** A node, and commands that reach it. */
async function build(t: TestContext) {
  const redisPrefix = `cli${++prefixes}:`
  const { app, port } = await buildPush(t, {
    redis: redis.url,
    redisPrefix,
    publishTimeout: PATIENCE,
    tickets: true,
    authenticate: ({ query }) => ({ user: (query as { user: string }).user, allow: ['channel:*'] }),
    presence: { users: { grace: 0 }, 'channel:*': { grace: 0 } },
  })
  const run = async (line: string, input = '') => {
    const said = { out: '', err: '' }
    const [name, ...argv] = line.split(' ')
    const code = await runCall(
      name!,
      argv.map(part => part.replaceAll('_', ' ')),
      { flags: {}, open: () => createPublisher({ redis: redis.url, redisPrefix, publishTimeout: PATIENCE }) },
      {
        out: text => {
          said.out += text
        },
        err: text => {
          said.err += text
        },
        input: async () => input,
      },
    )
    return { code, ...said }
  }
  return { app, port, run }
}

test('publish: says how many nodes have the topic, and when nobody does', async t => {
  const { app, run } = await build(t)
  const connection = await openConnection(app, '/ws/news?user=ann')
  const { code, out } = await run('publish channel:news headline {"text":"a_b"} --receipt')
  assert.equal(code, EXIT.done)
  assert.match(out, /^topic +nodes +delivered +skipped\nchannel:news +1 +1 +0\n$/)
  assert.deepEqual((await connection.next('headline')).payload, { text: 'a b' })
  await run('publish user:ann from.stdin -', '[1,2]')
  assert.deepEqual((await connection.next('from.stdin')).payload, [1, 2])
  assert.match((await run('publish channel:empty x')).out, /No node has the topic: nobody is subscribed\.\n$/)
})

test('publish and history: recorded, repeated, and read as JSON', async t => {
  const { run } = await build(t)
  const publish = 'publish channel:log entry 1 --size 10 --ttl 60 --key k1 --json'
  const first = JSON.parse((await run(publish)).out)
  const again = JSON.parse((await run(publish)).out)
  assert.deepEqual([again.id, again.duplicate], [first.id, true])
  await run('publish channel:log entry 2 --size 10 --ttl 60')
  const { messages } = JSON.parse((await run('history channel:log --json')).out)
  assert.deepEqual(
    messages.map(({ payload }: { payload: unknown }) => payload),
    [1, 2],
  )
  const { out } = await run(`history channel:log --since ${first.id}`)
  assert.match(out, /^seq +type +payload +id\n2 +entry +2 +\S+\nthe topic is at 2 \(\S+\)\n$/)
})

test('who, close, revoke and ticket', async t => {
  const { app, run } = await build(t)
  const ann = await openConnection(app, '/ws/room?user=ann')
  await until(async () => (await run('who')).out.includes('ann'), 'ann is online')
  assert.match(
    (await run('who')).out,
    /^user +connections +since\nann +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n1 users, 0 conn/,
  )
  await until(async () => (await run('who channel:room')).out.includes('ann'), 'ann is in the room')
  assert.match((await run('who user:ann')).out, new RegExp(`^id +node +since\\n${ann.welcome.connection} `))
  assert.equal((await run('who user:bob')).out, 'bob is not online\n')
  assert.equal((await run('close user:ann 4000 bye')).out, '1 connections were closed\n')
  assert.deepEqual(await ann.closed, { code: 4000, reason: 'bye' })
  const { out: token } = await run('ticket --user carl --allow channel:a')
  const carl = await openConnection(app, `/ws?ticket=${token.trim()}`)
  assert.equal(carl.welcome.user, 'carl')
  assert.match((await run('revoke user:carl')).out, /^revoked; 1 connections were closed\n$/)
  assert.equal((await carl.closed).code, 4401)
  assert.match((await run('status')).out, /^broker +connected +nodes\nredis +true +1\n$/)
})

/** As many topics as a connection may have, with names as long as they may be, some times over. */
const LARGE_TICKET = `ticket --allow ${Array.from({ length: 350 }, (_, n) => `channel:${'x'.repeat(190)}${n}`).join(',')}`

const WRONG: [line: string, code: number, message: RegExp][] = [
  [
    'publish channel:a',
    EXIT.usage,
    /^something is missing\nusage: fastify-push-bridge publish TOPIC TYPE \[PAYLOAD\]\n$/,
  ],
  ['publish channel:a x 1 2', EXIT.usage, /^"2" is too much\nusage: /],
  [
    'publish channel:a x {',
    EXIT.usage,
    /^the payload is not JSON: .*; write for example '\{"text":"hello"\}'\nusage: /,
  ],
  ['publish channel:a x 1 --size 5', EXIT.usage, /^--size and --ttl go together/],
  ['publish channel:a x 1 --size five --ttl 1', EXIT.usage, /^--size is "five": it must be a number/],
  ['publish channel:a x --recipt', EXIT.usage, /recipt/],
  ['publish nowhere x', EXIT.failed, /^PUSH_ERR_TOPIC: /],
  ['publish channel:a welcome', EXIT.failed, /^PUSH_ERR_RESERVED_TYPE: /],
  ['close channel:a', EXIT.failed, /^PUSH_ERR_TOPIC: /],
  ['ticket --ttl 0', EXIT.failed, /^PUSH_ERR_FIELD: the ttl of a ticket/],
  [LARGE_TICKET, EXIT.failed, /^PUSH_ERR_TOO_LARGE: the ticket has \d+ bytes; .*: allow patterns such as/],
]

for (const [line, expected, message] of WRONG) {
  test(`wrong: ${line.slice(0, 60)}`, async t => {
    const { run } = await build(t)
    const { code, out, err } = await run(line)
    assert.deepEqual([code, out], [expected, ''])
    assert.match(err, message)
  })
}

test('what others wrote cannot steer the terminal', () => {
  assert.equal(table([{ user: 'a\u001b[2Jb\nc' }]), 'user\na\\u001b[2Jb\\u000ac')
})

test('as a process: the help has every command, Redis must be named, and the code says how it ended', async () => {
  const cli = (args: string[], url = '') =>
    run(process.execPath, ['--import', 'tsx', path('src/cli.ts'), ...args], { env: { REDIS_URL: url } }, START)
  assert.ok((await cli(['--help'])).stdout.includes(callUsage()))
  const published = await cli(['publish', 'channel:none', 'x', '--json'], redis.url)
  assert.deepEqual([published.code, JSON.parse(published.stdout)], [0, { topic: 'channel:none', nodes: 0 }])
  const endless = await run(
    'sh',
    ['-c', `yes | "${process.execPath}" --import tsx "${path('src/cli.ts')}" publish channel:none x -`],
    { env: { REDIS_URL: redis.url } },
    START,
  )
  assert.deepEqual([endless.code, endless.stdout], [1, ''])
  assert.match(endless.stderr, /^the standard input has more than 16777216 bytes\n/)
  const unnamed = await cli(['status'])
  assert.deepEqual([unnamed.code, unnamed.stdout], [1, ''])
  assert.match(unnamed.stderr, /^REDIS_URL \(--redis\) is not set/)
})

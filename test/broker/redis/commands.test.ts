import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '../../../src/broker/redis/client.ts'
import { CommandLink } from '../../../src/broker/redis/commands.ts'
import type { Call, Functions } from '../../../src/broker/redis/functions.ts'
import { Link } from '../../../src/broker/redis/link.ts'
import { OneMaster } from '../../../src/broker/redis/masters.ts'
import { Names } from '../../../src/broker/redis/names.ts'
import { PubSub } from '../../../src/broker/redis/pub-sub.ts'
import { PublishCommands } from '../../../src/broker/redis/publish-commands.ts'
import { errors } from '../../../src/protocol/errors.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { startRedis } from '../../helpers/redis.ts'
import { once, PATIENCE, within } from '../../helpers/waiting.ts'

test('what has waited for the link until the last moment does not take the others with it', async t => {
  const server = await startRedis(t)
  let begin = 0
  const commands: CommandLink = new CommandLink(createClient(server.url, 'test'), isUp => {
    while (isUp && performance.now() - begin < 990);
  })
  t.after(() => commands.close())
  begin = performance.now()
  const [late, early] = await Promise.all([commands.run([['PING']], 1000), commands.run([['PING']], 30_000)])
  assert.deepEqual([(late[0] as { code?: string }).code, early], ['PUSH_ERR_BROKER_AWAY', ['PONG']])
})

test('a call waits for the link as long as it may, and for the answer as long as an attempt', async t => {
  const server = await startRedis(t, { isDown: true })
  const commands = new CommandLink(createClient(server.url, 'test'), () => {})
  t.after(() => commands.close())
  const order: number[] = []
  const ATTEMPT = 1000
  const runs = [1, 2, 3].map(n =>
    commands.run([['PING']], 60_000, { attempt: ATTEMPT }).then(([reply]) => order.push(n) && reply),
  )
  // The time is what the test is about: the link is away for longer than an attempt.
  await sleep(ATTEMPT + 100)
  await server.start()
  assert.deepEqual(
    [await within(Promise.all(runs), 'the answers of a Redis that has come'), order],
    [
      ['PONG', 'PONG', 'PONG'],
      [1, 2, 3],
    ],
  )
})

/** A Redis whose functions a test plays. */
const mastersOf = (functions: unknown) =>
  new OneMaster({ commands: {} as CommandLink, functions: functions as Functions, close() {} })

test('of a batch with keys only what has no answer is tried again', async () => {
  const asked: unknown[][] = []
  const lost = new errors.UNCONFIRMED('lost')
  const replies: unknown[][] = [[['a', 1, 1, 0], lost, ['c', 3, 1, 0]], [lost], [['b', 2, 1, 1]]]
  const functions = {
    run: async (calls: readonly Call[]) => {
      asked.push(calls.map(({ args }) => args[3]))
      return replies.shift()!
    },
  }
  const publishing = new PublishCommands(mastersOf(functions), new Names('push:'), {
    pubSub: new PubSub(false),
    publishTimeout: PATIENCE,
    maxBytes: 262_144,
  })
  const items = ['a', 'b', 'c'].map(idempotencyKey => ({
    topic: 'channel:x' as const,
    envelope: '{}',
    history: { size: 1, ttl: 1 },
    idempotencyKey,
  }))
  const results = await publishing.publish(items)
  assert.deepEqual(asked, [['a', 'b', 'c'], ['b'], ['b']])
  const at = (id: string, seq: number) => ({ nodes: 1, position: { id, seq } })
  assert.deepEqual(results, [at('a', 1), at('b', 2), at('c', 3)])
})

test('every call settles by its own deadline, whichever came first', async t => {
  const server = await startRedis(t, { isDown: true })
  const commands = new CommandLink(createClient(server.url, 'test'), () => {})
  t.after(() => commands.close())
  const order: number[] = []
  const runs = [3000, 300].map(timeout => commands.run([['PING']], timeout).then(() => order.push(timeout)))
  await Promise.all(runs)
  assert.deepEqual(order, [300, 3000])
})

/** Publishes once with a key, to a Redis that is full; `then` is called after each attempt. */
async function attemptsIn(publishTimeout: number, then: (begin: number) => void = () => {}) {
  const attempts: { at: number; attempt: number }[] = []
  const begin = performance.now()
  const functions = {
    run: async (calls: readonly Call[], _timeout: number, { attempt }: { attempt: number }) => {
      attempts.push({ at: performance.now() - begin, attempt })
      then(begin)
      return calls.map(() => new errors.BROKER_AWAY('full'))
    },
  }
  const publishing = new PublishCommands(mastersOf(functions), new Names('push:'), {
    pubSub: new PubSub(false),
    publishTimeout,
    maxBytes: 262_144,
  })
  const item = { topic: 'channel:x' as const, envelope: '{}', history: { size: 1, ttl: 1 }, idempotencyKey: 'k' }
  const [sent] = await publishing.publish([item])
  assert.equal((sent as { code?: string }).code, 'PUSH_ERR_BROKER_AWAY')
  return attempts
}

test('no attempt is so short that it would take the link from others, and none outlasts the deadline', async () => {
  const attempts = await attemptsIn(2000)
  assert.ok(attempts.length > 1)
  for (const { at, attempt } of attempts) assert.ok(attempt >= 300 && at + attempt <= 2200, JSON.stringify(attempts))
})

test('no attempt is made for which the pause before it has left too little time', async () => {
  const attempts = await attemptsIn(1000, begin => {
    setImmediate(() => {
      // The pause of 200 ms has begun, and its timer comes late.
      while (performance.now() - begin < 750);
    })
  })
  assert.ok(
    attempts.every(({ attempt }) => attempt >= 300),
    JSON.stringify(attempts),
  )
})

test('a receipt has its answers although the one that it was recorded was lost', async () => {
  const replies: unknown[][] = [[new errors.UNCONFIRMED('lost')], [['a', 1, 0, 1]]]
  const functions = { run: async () => replies.shift()! } as unknown as Functions
  const publishing = new PublishCommands(mastersOf(functions), new Names('push:'), {
    pubSub: new PubSub(false),
    publishTimeout: PATIENCE,
    maxBytes: 262_144,
  })
  const item = { topic: 'channel:x' as const, envelope: '{}', history: { size: 1, ttl: 1 }, idempotencyKey: 'k' }
  const [sent] = await publishing.publish([{ ...item, receipt: 'token' }])
  assert.deepEqual(sent, { nodes: 0, answers: [], complete: true, position: { id: 'a', seq: 1 } })
})

test('a call that is overdue ends, and does not take the answer from one that may wait longer', async t => {
  const server = await startRedis(t)
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  const client = createClient(`redis://127.0.0.1:${proxy.port}`, 'test')
  const commands = new CommandLink(client, () => {})
  t.after(() => commands.close())
  await once(client, 'ready')
  proxy.isHeld = true
  const patient = commands.run([['PING']], 10_000, { patience: 10_000 })
  const codes = async (timeout: number, patience: number) => {
    const [reply] = await commands.run([['PING']], timeout, { patience })
    return (reply as { code?: string }).code ?? reply
  }
  // Long enough for it to be sent, and shorter than a link may be silent.
  assert.equal(await codes(500, 500), 'PUSH_ERR_UNCONFIRMED')
  // What cannot be answered in its time is not sent behind what has no answer yet.
  assert.equal(await codes(50, 50), 'PUSH_ERR_BROKER_AWAY')
  const next = commands.run([['ECHO', 'next']], 10_000)
  proxy.isHeld = false
  assert.deepEqual([await patient, await next], [['PONG'], ['next']])
})

test('a link is given up when the call that may wait longest is overdue, or none may wait longer', async t => {
  const server = await startRedis(t)
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  const client = createClient(`redis://127.0.0.1:${proxy.port}`, 'test')
  const commands = new CommandLink(client, () => {})
  t.after(() => commands.close())
  for (const [patience, longer] of [
    [100, 1500],
    [100, 100],
  ] as const) {
    if (client.status !== 'ready') await once(client, 'ready')
    proxy.isHeld = true
    const closed = once(client, 'close')
    const short = commands.run([['PING']], patience, { patience })
    // In another write, so that each has a deadline of its own.
    await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
    const long = commands.run([['PING']], longer, { patience: longer })
    const done: string[] = []
    void Promise.all([short.then(() => done.push('short')), long.then(() => done.push('long'))])
    await closed
    await Promise.all([short, long])
    // With one patience for both the link is given up once, and either may hear of it first.
    assert.deepEqual(longer > patience ? done : done.toSorted().reverse(), ['short', 'long'])
    proxy.isHeld = false
  }
})

test('a link on which many calls end at once is given up once', async t => {
  const server = await startRedis(t)
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  const client = createClient(`redis://127.0.0.1:${proxy.port}`, 'test')
  const commands = new CommandLink(client, () => {})
  t.after(() => commands.close())
  await once(client, 'ready')
  const warnings: Error[] = []
  const onWarning = (warning: Error) => void warnings.push(warning)
  process.on('warning', onWarning)
  t.after(() => process.off('warning', onWarning))
  proxy.isHeld = true
  const runs: Promise<unknown>[] = []
  for (let n = 0; n < 20; n++) {
    runs.push(commands.run([['PING']], 300))
    await new Promise(setImmediate)
  }
  await within(Promise.all(runs), 'the deadlines of 20 calls')
  proxy.isHeld = false
  assert.deepEqual(await commands.run([['PING']], 30_000), ['PONG'])
  assert.deepEqual(warnings, [])
})

test('a refusal is an answer: the link is not given up for it', async t => {
  const server = await startRedis(t)
  const client = createClient(server.url, 'test')
  const pings = new EventEmitter()
  const misconf = Object.assign(new Error('MISCONF Redis is configured to save RDB snapshots'), { name: 'ReplyError' })
  client.ping = (async () => {
    setImmediate(() => pings.emit('ping'))
    throw misconf
  }) as typeof client.ping
  let isOver = false
  const link = new Link(client, { up() {}, down: error => assert.ok(isOver, `given up: ${error?.message}`) })
  t.after(() => link.close())
  for (let n = 0; n < 4; n++) await once(pings, 'ping')
  isOver = true
})

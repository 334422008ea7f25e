import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errors } from '../src/errors.ts'
import { RedisCarrier } from '../src/redis/carrier.ts'
import { createClient } from '../src/redis/client.ts'
import { CommandLink } from '../src/redis/commands.ts'
import type { Call, Functions } from '../src/redis/functions.ts'
import { Names } from '../src/redis/names.ts'
import { startRedis } from './helpers/redis.ts'

test('what has waited for the link until the last moment does not take the others with it', async t => {
  const server = await startRedis(t)
  const begin = performance.now()
  const commands: CommandLink = new CommandLink(createClient(server.url, 'test'), isUp => {
    while (isUp && performance.now() - begin < 950);
  })
  t.after(() => commands.close())
  const [late, early] = await Promise.all([commands.run([['PING']], 1000), commands.run([['PING']], 5000)])
  assert.deepEqual([(late[0] as { code?: string }).code, early], ['PUSH_ERR_BROKER_AWAY', ['PONG']])
})

test('a call waits for the link as long as it may, and for the answer as long as an attempt', async t => {
  const server = await startRedis(t, { isDown: true })
  const commands = new CommandLink(createClient(server.url, 'test'), () => {})
  t.after(() => commands.close())
  const order: number[] = []
  const runs = [1, 2, 3].map(n => commands.run([['PING']], 10_000, 50).then(([reply]) => order.push(n) && reply))
  await server.start()
  assert.deepEqual(
    [await Promise.all(runs), order],
    [
      ['PONG', 'PONG', 'PONG'],
      [1, 2, 3],
    ],
  )
})

test('of a batch with keys only what has no answer is tried again', async () => {
  const asked: unknown[][] = []
  const lost = new errors.UNCONFIRMED('lost')
  const replies: unknown[][] = [[['a', 1, 1, 0], lost, ['c', 3, 1, 0]], [lost], [['b', 2, 1, 1]]]
  const functions = {
    run: async (calls: readonly Call[]) => {
      asked.push(calls.map(({ args }) => args.at(-1)))
      return replies.shift()!
    },
  }
  const carrier = new RedisCarrier({} as CommandLink, functions as unknown as Functions, new Names('push:'), 2000)
  const items = ['a', 'b', 'c'].map(idempotencyKey => ({
    topic: 'channel:x' as const,
    envelope: '{}',
    history: { size: 1, ttl: 1 },
    idempotencyKey,
  }))
  const results = await carrier.publish(items)
  assert.deepEqual(asked, [['a', 'b', 'c'], ['b'], ['b']])
  const at = (id: string, seq: number) => ({ nodes: 1, position: { id, seq } })
  assert.deepEqual(results, [at('a', 1), at('b', 2), at('c', 3)])
})

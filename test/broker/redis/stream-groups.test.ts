import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import type { Command } from '../../../src/broker/redis/commands.ts'
import type { Masters } from '../../../src/broker/redis/masters.ts'
import { StreamGroups } from '../../../src/broker/redis/stream-groups.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/waiting.ts'

const GROUP = 'bridge'
const KEPT = 300

const all = cleanups()
let redis: RedisServer
let tests = 0

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

/** A group of two consumers, `live` and `other`. The first has handled a message and is silent since then. */
async function twoConsumers(t: TestContext) {
  const key = `s${++tests}`
  const { admin } = redis
  const ask = ([name, ...args]: Command) => admin.call(String(name), ...(args as (string | number)[]))
  const masters = { run: (_key: string, commands: Command[]) => Promise.all(commands.map(ask)) } as unknown as Masters
  const groupsOf = (consumer: string) =>
    new StreamGroups({ masters, key, consumer, ask }, { group: GROUP, trim: true, consumersKept: KEPT })
  const read = (consumer: string) => admin.xreadgroup('GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', key, '>')
  await admin.xgroup('CREATE', key, GROUP, '0', 'MKSTREAM')
  const id = (await admin.xadd(key, '*', 'body', '{}'))!
  await read('live')
  await admin.xack(key, GROUP, id)
  t.after(() => admin.unlink(key))
  const names = async () => [...(await idles()).keys()]
  const idles = async () => {
    const rows = (await admin.xinfo('CONSUMERS', key, GROUP)) as [string, string, string, number, string, number][]
    return new Map(rows.map(([, name, , , , idle]) => [name, idle]))
  }
  await until(async () => (await idles()).get('live')! > KEPT, 'it counts as gone')
  const pending = async () => ((await admin.xpending(key, GROUP)) as [number])[0]
  return { key, live: groupsOf('live'), other: groupsOf('other'), names, idles, read, pending }
}

test('a consumer for which there was nothing for long shows that it is there', async t => {
  const { live, idles } = await twoConsumers(t)
  const from = performance.now()
  await live.removeConsumers()
  const idle = (await idles()).get('live')!
  // Without the sign it would be silent for as long as before, and this in addition.
  assert.ok(idle <= performance.now() - from + KEPT / 2, `idle for ${idle} ms`)
})

test('a consumer that comes back between two looks keeps what it gets', async t => {
  const { key, other, read, names, pending } = await twoConsumers(t)
  await other.removeConsumers()
  assert.deepEqual(await names(), ['live'])
  await redis.admin.xadd(key, '*', 'body', '{}')
  await read('live')
  await other.removeConsumers()
  assert.deepEqual([await names(), await pending()], [['live'], 1])
})

test('to show itself a consumer takes nothing and counts nothing', async t => {
  const { key, live, read, idles } = await twoConsumers(t)
  await redis.admin.xadd(key, '*', 'body', '{}')
  await read('live')
  await redis.admin.xadd(key, '*', 'body', '{}')
  await until(async () => (await idles()).get('live')! > KEPT, 'it was silent')
  await live.removeConsumers()
  const rows = (await redis.admin.xpending(key, GROUP, '-', '+', 10)) as [string, string, number, number][]
  assert.deepEqual(
    rows.map(([, consumer, , tries]) => [consumer, tries]),
    [['live', 1]],
  )
})

test('a consumer that two looks find gone is removed', async t => {
  const { other, names } = await twoConsumers(t)
  await other.removeConsumers()
  await other.removeConsumers()
  assert.deepEqual(await names(), [])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { temporaryFolder } from '../../helpers/processes.ts'
import { startRedis } from '../../helpers/redis.ts'
import { connectTo } from '../../helpers/redis-node.ts'
import { until, within } from '../../helpers/waiting.ts'

/** Redis waits this many microseconds at each key that it reads: long enough for the node to ask more than once. */
const KEYS = 6000
const DELAY = 1000

test('redis: while Redis reads its data the node says that, keeps its connection, and is live afterwards', {
  timeout: 240_000,
}, async t => {
  const data = ['--dir', temporaryFolder(t), '--dbfilename', 'data.rdb']
  const before = await startRedis(t, { args: data })
  await before.admin.mset(...Array.from({ length: KEYS }, (_, n) => [`key:${n}`, 'x'.repeat(20)]).flat())
  await before.admin.save()
  await before.kill()
  const slowly = ['--key-load-delay', `${DELAY}`, '--loading-process-events-interval-bytes', '1024']
  const server = await startRedis(t, { isDown: true, args: [...data, ...slowly] })
  const starting = server.start()
  const { broker, changes } = connectTo(t, server.url)
  await until(
    () => /LOADING/.test(String(broker.problem)),
    () => `the node says what it waits for; ${JSON.stringify(changes.map(({ error }) => error?.message))}`,
    20_000,
  )
  assert.equal(broker.connected, false)
  await starting
  await within(broker.whenLive, 'the node is live')
  assert.equal(broker.problem, undefined)
  assert.doesNotMatch(JSON.stringify(changes.map(({ error }) => error?.message)), /no answer/)
})

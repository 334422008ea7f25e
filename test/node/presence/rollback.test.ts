import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { buildPush, openConnection } from '../../helpers/app.ts'
import { dump, follow, look, restore } from '../../helpers/presence.ts'
import { cleanups } from '../../helpers/processes.ts'
import { startRedis } from '../../helpers/redis.ts'

const LONG = { timeout: 240_000 }

const all = cleanups()
let url: string
let admin: Redis

before(async () => {
  const redis = await startRedis(all)
  url = redis.url
  admin = redis.admin
})

after(() => all.end())

const options: Partial<PushBridgeOptions> = {
  presence: { 'channel:room.*': { grace: 0 }, lease: 1500 },
  authenticate: request => ({
    user: (request.query as { user: string }).user,
    allow: [{ topics: ['channel:*'], actions: ['subscribe', 'presence'] }],
  }),
}

test('clients are told the truth also after Redis went back in time', LONG, async t => {
  const prefix = 'rollback:'
  const { app: one } = await buildPush(t, { ...options, redis: url, redisPrefix: prefix })
  const { app: other } = await buildPush(t, { ...options, redis: url, redisPrefix: prefix })
  const watcher = await openConnection(one, '/ws/room.1?user=w')
  await openConnection(other, '/ws/room.1?user=ann')
  const list = await look(watcher)
  await follow(watcher, list, ['ann', 'w'])
  const dumped = await dump(admin, prefix)
  for (const user of ['bob', 'carl', 'dora']) await openConnection(other, `/ws/room.1?user=${user}`)
  const members = ['w', 'ann', 'bob', 'carl', 'dora'].map(user => ({ user, connections: 1, since: 0 }))
  await follow(watcher, { ...list, members: members.slice(0, 2) }, ['ann', 'bob', 'carl', 'dora', 'w'])
  await restore(admin, dumped, prefix)
  await openConnection(other, '/ws/room.1?user=ed')
  await follow(watcher, { ...list, members }, ['ann', 'bob', 'carl', 'dora', 'ed', 'w'])
  await openConnection(one, '/ws/room.1?user=fay')
  await follow(watcher, { ...list, members: [] }, ['fay'])
})

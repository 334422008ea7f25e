import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, connect } from '../../../src/client/index.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { dump, restore } from '../../helpers/presence.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/waiting.ts'

const ROOM = 'channel:room.1'
const RIGHTS = [{ topics: 'channel:*', actions: ['subscribe', 'presence'] as const }]
const STEPS = 60
const USERS = ['ann', 'bob', 'carl', 'dora']

/** The same numbers for the same seed. */
function randomOf(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * below)
  }
}

interface Node extends TestApp {
  proxy: FaultProxy
}

/** Each node reaches Redis through a proxy of its own, so that they share no link although they are one process. */
async function startNodes(t: TestContext, server: RedisServer): Promise<Node[]> {
  const start = async () => {
    const proxy = await FaultProxy.start(server.port)
    t.after(() => proxy.close())
    const app = await buildPush(t, {
      redis: `redis://127.0.0.1:${proxy.port}`,
      presence: { 'channel:room.*': { grace: 100 }, lease: 1500 },
      authenticate: ({ query }) => ({ user: (query as { user: string }).user, allow: RIGHTS }),
    })
    return { ...app, proxy }
  }
  return [await start(), await start()]
}

for (const seed of process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2, 7]) {
  test(`whatever happens to clients, links and Redis, every client ends with the truth (seed ${seed})`, {
    timeout: 240_000,
  }, async t => {
    const random = randomOf(seed)
    const server = await startRedis(t)
    const nodes = await startNodes(t, server)
    const watchers = nodes.map(({ port }, n): Client => {
      const client: Client = connect(`ws://127.0.0.1:${port}/ws?user=w${n}`, { WebSocket })
      client.listen('error', () => {})
      client.listen('gap', () => {})
      t.after(() => client.close())
      return client
    })
    const rosters = watchers.map(watcher => watcher.presence(ROOM))
    const open: { user: string; close(): Promise<void> }[] = []
    let dumped: [string, Buffer][] = []
    const steps: (() => unknown)[] = [
      async () => {
        const user = USERS[random(USERS.length)]!
        const { close } = await openConnection(nodes[random(nodes.length)]!.app, `/ws/room.1?user=${user}`)
        open.push({ user, close })
      },
      async () => {
        const [left] = open.splice(random(open.length), 1)
        await left?.close()
      },
      () => nodes[random(nodes.length)]!.proxy.cut(),
      () => server.admin.flushall(),
      () => server.admin.del(`{push:${ROOM}}:members`),
      () => server.admin.del(`{push:${ROOM}}:presence`),
      async () => {
        dumped = await dump(server.admin)
      },
      () => restore(server.admin, dumped),
    ]
    // Clients come and go more often than Redis fails.
    const weighted = [...Array(6).fill(0), ...Array(4).fill(1), 2, 3, 4, 5, 6, 6, 7] as number[]
    for (let i = 0; i < STEPS; i++) await steps[weighted[random(weighted.length)]!]!()
    const truth = () => [...new Set([...open.map(({ user }) => user), 'w0', 'w1'])].toSorted().join()
    const listed = (n: number) =>
      rosters[n]!.members.map(({ user }) => user)
        .toSorted()
        .join()
    for (const n of [0, 1]) {
      await until(
        () => rosters[n]!.isKnown && listed(n) === truth(),
        () => `watcher ${n} sees ${listed(n)}, and there are ${truth()}`,
      )
    }
    const counted = () => {
      const connections = (user: string) => open.filter(it => it.user === user).length || 1
      return JSON.stringify(
        truth()
          .split(',')
          .map(user => [user, connections(user)]),
      )
    }
    const told = async () => {
      const { count, members } = await nodes[0]!.app.push.presence(ROOM)
      assert.equal(count, members.length)
      return JSON.stringify(members.map(({ user, connections }) => [user, connections]).toSorted())
    }
    let said = ''
    // What Redis lost with the last steps is written again before any client notices.
    const isTruth = async () => {
      said = await told().catch(String)
      return said === counted()
    }
    await until(isTruth, () => `the node says ${said}, and there are ${counted()}`)
    for (const watcher of watchers) watcher.close()
    for (const { close } of open) await close()
    const left = () => server.admin.hkeys(`{push:${ROOM}}:members`)
    await until(async () => (await left()).length === 0, 'nobody is left in Redis')
  })
}

import { once } from 'node:events'
import { Redis } from 'ioredis'
import { WebSocket } from 'ws'
import type { PresenceMessage } from '../../../src/protocol/presence.ts'
import { PRESENCE_PEERS } from '../lib/peers.ts'
import { connect, number, type Outcome, type Run, type Scenario, stats } from '../lib/scenario.ts'

const WARM_UP = 100
const AT_ONCE = 4000
const ROOM = 'channel:room'
/** Members who come one after the other into the full room. Of a large one, others are told once a second. */
const JOINS = 15
/** With the first ones, one who watches and those who come later: no more than a list may have. */
const CLIENTS = 10_000 - WARM_UP - JOINS - 1
const POLL = 10
/** Milliseconds until a change that nobody waited for is written. */
const REST = 1000

/** What it costs to know who is there. */
export const scenario: Scenario = {
  id: 'p',
  title: 'presence: 10,000 clients, each a user, connect to one channel; then others come in one by one',
  variants: ['room of 10,000'],
  columns: [
    { key: 'live', label: 'all live s', digits: 2 },
    { key: 'cpuPerClient', label: 'µs CPU/client', digits: 0 },
    { key: 'known', label: 'all known s', digits: 2 },
    { key: 'calls', label: 'FCALL/client', digits: 2 },
    { key: 'commands', label: 'Redis commands/client', digits: 1 },
    { key: 'rssPer', label: 'RSS B/client', digits: 0 },
    { key: 'redisPer', label: 'Redis B/client', digits: 0 },
    { key: 'listMs', label: 'list p50 ms', digits: 1 },
    { key: 'listKb', label: 'list kB', digits: 1 },
    { key: 'seenMs', label: 'seen by others p50 ms', digits: 1 },
    { key: 'maxDelay', label: 'longest delay ms', digits: 0 },
  ],
  peers: PRESENCE_PEERS,
  async run(run) {
    const redis = new Redis(run.redisPort)
    try {
      // The server before this one was killed, and its users are there until its lease ends.
      await redis.flushall()
      return await measure(run, redis)
    } finally {
      redis.disconnect()
    }
  },
}

async function measure(run: Run, redis: Redis): Promise<Outcome> {
  const count = run.quick ? Math.round(CLIENTS / 10) : CLIENTS
  const client = (index: number) => ({ topics: [ROOM], user: number('u', index) })
  // The first connections load code and grow the heap once.
  await connect(
    run,
    Array.from({ length: WARM_UP }, (_, i) => client(count + i)),
  )
  await new Promise(resolve => setTimeout(resolve, REST))
  const [before, cpu] = [await costOf(run, redis), run.server.cpu()]
  await run.server.request('reset')
  const began = performance.now()
  const { seconds } = await connect(
    run,
    Array.from({ length: count }, (_, i) => client(i)),
    AT_ONCE,
  )
  const topic = TOPICS[run.peer.name]
  const known = topic ? await knownAfter(redis, topic, count + WARM_UP, began) : Number.NaN
  const [after, cpuAfter] = [await costOf(run, redis), run.server.cpu()]
  const { maxDelay } = await stats(run)
  const metrics = {
    complete: 1,
    live: seconds,
    known,
    cpuPerClient: ((cpuAfter - cpu) * 1e6) / count,
    calls: (after.calls - before.calls) / count,
    commands: (after.commands - before.commands) / count,
    rssPer: (after.rss - before.rss) / count,
    redisPer: (after.memory - before.memory) / count,
    maxDelay,
    ...(topic === ROOM ? await join(run) : { listMs: Number.NaN, listKb: Number.NaN, seenMs: Number.NaN }),
  }
  return { metrics, notes: [] }
}

/** Where each peer keeps who is there. */
const TOPICS: Record<string, string> = { 'ours-users': 'all', 'ours-topic': ROOM, 'ours-list': ROOM }

async function costOf(run: Run, redis: Redis) {
  const { rss } = await stats(run, true)
  const info = await redis.info('commandstats')
  const calls = Number(/^cmdstat_fcall:calls=(\d+)/m.exec(info)?.[1] ?? 0)
  const commands = [...info.matchAll(/:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
  const memory = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))![1])
  return { rss, calls, commands, memory }
}

/** Seconds from the first connection until Redis, and so every node, knows all of them. */
async function knownAfter(redis: Redis, topic: string, count: number, began: number): Promise<number> {
  while ((await redis.hlen(`{push:${topic}}:members`)) < count) await new Promise(resolve => setTimeout(resolve, POLL))
  return (performance.now() - began) / 1000
}

/** Members who come into the full room: when they have the list, and when somebody who is there is told. */
async function join(run: Run) {
  const watcher = await Member.connect(run, 'watcher')
  const lists: number[] = []
  const seen: number[] = []
  let bytes = 0
  for (let i = 0; i < JOINS; i++) {
    const before = watcher.count
    const began = performance.now()
    const member = await Member.connect(run, number('j', i))
    lists.push(performance.now() - began)
    bytes = member.bytes
    await watcher.counts(before + 1)
    seen.push(performance.now() - began)
    // It stays: leaving would be told too.
  }
  const middle = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!
  return { listMs: middle(lists), listKb: bytes / 1000, seenMs: middle(seen) }
}

type Message =
  | { type: 'welcome' }
  | { type: 'subscribed'; payload: { presence?: PresenceMessage | null } }
  | { type: 'push.presence'; payload: PresenceMessage }

/** A client that asks who is in the room. */
class Member {
  count = 0
  bytes = 0
  #isWhole = false
  #look = () => {}

  /** Resolves when it has the list. */
  static async connect(run: Run, user: string): Promise<Member> {
    const member = new Member()
    const socket = new WebSocket(`ws://127.0.0.1:${run.server.port}/ws?user=${user}`, { perMessageDeflate: false })
    socket.on('message', data => member.#take(JSON.parse(String(data)) as Message, (data as Buffer).length))
    await once(socket, 'open')
    socket.send(JSON.stringify({ type: 'subscribe', payload: { topic: ROOM, presence: true }, ref: 1 }))
    await member.#until(() => member.#isWhole)
    return member
  }

  #take(message: Message, bytes: number): void {
    if (message.type === 'welcome') return
    const presence = message.type === 'push.presence' ? message.payload : message.payload.presence
    if (!presence) return
    this.bytes += bytes
    this.count = presence.count
    if (!this.#isWhole) this.#isWhole = presence.more !== true
    this.#look()
  }

  counts(count: number): Promise<void> {
    return this.#until(() => this.count >= count)
  }

  #until(check: () => boolean): Promise<void> {
    if (check()) return Promise.resolve()
    return new Promise(resolve => {
      this.#look = () => check() && resolve()
    })
  }
}

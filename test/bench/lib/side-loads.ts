import type { Arrivals } from '../load.ts'
import type { Client } from './pool.ts'
import { number } from './scenario.ts'
import type { Side } from './side.ts'
import { MESSAGE_BYTES } from './stamp.ts'

/** What a side does in its turn, again and again. */
export interface Load {
  /** how many things are done at a time */
  size: number
  /** once for each side, before the first turn */
  prepare(side: Side): Promise<void>
  work(side: Side): Promise<void>
  /** milliseconds of rest before each turn, so that its rate stays below a limit */
  rest?: number
}

const CONNECTIONS = 1000
const PATIENCE = 20_000
const LOOK_EVERY = 5
/** Below the burst of 200 that `limits.messages` allows, and not faster than 100 a second. */
const MESSAGES = 20
const SAID = '{"type":"echo","payload":{"n":1},"ref":1}'
const REPLY = '{"type":"reply","payload":{"n":1},"ref":1}'

export const LOADS: Record<string, (quick: boolean) => Load> = {
  unicast: quick => bursts({ count: quick ? 20_000 : 100_000, topics: usersOf, receivers: 1 }),
  'fan-out': quick => bursts({ count: quick ? 200 : 2000, topics: side => [roomOf(side)], receivers: CONNECTIONS }),
  'fan-out, paced': () => ({
    size: RATE * SECONDS * CONNECTIONS,
    prepare: join,
    work: side => paced(side),
  }),
  connecting: quick => {
    const count = quick ? 200 : CONNECTIONS
    return { size: count, prepare: openPublisher, work: side => comeAndGo(side, count), rest: RECOVERY }
  },
  'client messages': () => ({ size: MESSAGES * CONNECTIONS, prepare: join, work: talk }),
}

/** A turn has some 4,500 upgrades: the burst of `limits.upgrades`, which is as many as two seconds may have, has to be there again. */
const RECOVERY = 1500

/** 50 messages a second, as in scenario b. */
const RATE = 50
const SECONDS = 0.5

const roomOf = ({ letter }: Side) => `channel:${letter}-room`
const userOf = ({ letter }: Side, index: number) => number(letter, index)
const usersOf = (side: Side) => Array.from({ length: CONNECTIONS }, (_, index) => `user:${userOf(side, index)}`)

function clientsOf(side: Side, count = CONNECTIONS): Client[] {
  return Array.from({ length: count }, (_, index) => ({ topics: [roomOf(side)], user: userOf(side, index) }))
}

async function connect({ processes, name }: Side, clients: Client[]): Promise<void> {
  const offer = { address: true, path: `/${name}/ws` }
  const args = { kind: 'bridge', port: processes.server.port, clients, concurrency: 200, offer }
  await processes.load.request('connect', args)
}

/** The publisher is connected to Redis already. */
async function openPublisher(): Promise<void> {}

async function join(side: Side): Promise<void> {
  await connect(side, clientsOf(side))
}

interface Burst {
  count: number
  topics(side: Side): string[]
  /** of each message */
  receivers: number
}

function bursts({ count, topics, receivers }: Burst): Load {
  const perTopic = new Map<Side, Record<string, number>>()
  return {
    size: count * receivers,
    async prepare(side) {
      await join(side)
      const plan = { kind: 'bridge', topics: topics(side), count, size: MESSAGE_BYTES, pick: 'random' }
      const prepared = await side.processes.publisher.request<{ perTopic: Record<string, number> }>('prepare', plan)
      perTopic.set(side, prepared.perTopic)
    },
    async work(side) {
      await expect(side, perTopic.get(side)!, MESSAGE_BYTES)
      await Promise.all([side.processes.publisher.request('burst'), arrive(side)])
    },
  }
}

async function paced(side: Side): Promise<void> {
  const streams = [{ topic: roomOf(side), rate: RATE, size: MESSAGE_BYTES }]
  await expect(side, { [roomOf(side)]: RATE * SECONDS }, MESSAGE_BYTES)
  const publish = side.processes.publisher.request('paced', { kind: 'bridge', streams, seconds: SECONDS })
  await Promise.all([publish, arrive(side)])
}

/** Everybody comes, is welcomed, and goes; it ends when the node knows that they are gone. */
async function comeAndGo(side: Side, count: number): Promise<void> {
  const { load, server } = side.processes
  await connect(side, clientsOf(side, count))
  await load.request('leave')
  while ((await server.request<number>('connections', { side: side.name })) > 0)
    await new Promise(resolve => setTimeout(resolve, LOOK_EVERY))
}

async function talk(side: Side): Promise<void> {
  await expect(side, { [roomOf(side)]: MESSAGES }, REPLY.length)
  await Promise.all([side.processes.load.request('say', { text: SAID, times: MESSAGES }), arrive(side)])
}

function expect({ processes }: Side, perTopic: Record<string, number>, size: number): Promise<unknown> {
  return processes.load.request('expect', { perTopic, size, stamped: false })
}

async function arrive(side: Side): Promise<void> {
  side.check(await side.processes.load.request<Arrivals>('wait', { timeout: PATIENCE }))
}

import { setTimeout as sleep } from 'node:timers/promises'
import { within } from '../helpers/waiting.ts'
import { strike } from './faults.ts'
import { judge } from './judge.ts'
import { type FaultKind, scheduleOf } from './schedule.ts'
import { stray } from './strays.ts'
import { GRACE, LEASE, LOBBIES, TOPICS } from './topics.ts'
import type { Verdict, Violation } from './verdict.ts'
import { World, type WorldOptions } from './world.ts'

export interface SeedOptions extends WorldOptions {
  /** How long faults happen. */
  seconds: number
  /** Only these kinds; default: all of the topology. */
  kinds?: readonly FaultKind[] | undefined
  keep: boolean
}

/** Everybody is back and up to date this soon after the last fault. */
const RECOVERY_TIME = 10_000
const ROUND = 2500
/**
 * Everybody knows who is there this soon afterwards: a connection that broke silently, the grace, a node that died, after an
 * outage one lease more, and one renewal.
 */
const PRESENCE_TIME = 2500 + GRACE + (LEASE * 4) / 3 + LEASE + LEASE / 3 + 2000
/** Rounds of canaries after the last publication: their keys are others than those before. */
const LAST_ROUNDS = 1000
const ENDING = 20_000

/** One run from its seed: start, faults, quiet, end, judgement. */
export async function runSeed(options: SeedOptions): Promise<Verdict> {
  const world = new World(options)
  try {
    await world.start()
    await happen(world, options)
    await quieten(world)
    await end(world)
  } catch (error) {
    world.journal.write({ e: 'aborted', what: String((error as Error).stack) })
  } finally {
    world.clients?.signal('SIGTERM')
    await world.clients?.exited
    await world.close()
  }
  const verdict = judge(options.seed, world.folder)
  if (options.seconds > 0) verdict.violations.push(...blindnessOf(verdict, options))
  if (verdict.violations.length === 0 && !options.keep) world.forget()
  return verdict
}

function blindnessOf({ tally }: Verdict, { ingress }: SeedOptions): Violation[] {
  const unseen = ingress.filter(kind => !tally.queued[kind]).map(kind => `nothing came through ${kind}`)
  if (!tally.recoveries.replayed) unseen.push('nobody was replayed anything')
  return unseen.map(what => ({ invariant: 'blind', what: `${what}: this run shows nothing` }))
}

async function happen(world: World, options: SeedOptions): Promise<void> {
  const { faults } = scheduleOf(options)
  const begin = Date.now()
  const striking = faults.map(async fault => {
    await sleep(begin + fault.at - Date.now())
    await strike(world, fault)
  })
  // All of them end before the world does, also when one fails.
  const ended = await Promise.allSettled([sleep(options.seconds * 1000), ...striking])
  for (const result of ended) if (result.status === 'rejected') throw result.reason
}

/** From the last fault on, until everybody is up to date. */
async function quieten(world: World): Promise<void> {
  world.clients.tell({ e: 'settle' })
  const begin = Date.now()
  const milliseconds = await everybodyUpToDate(world, 0)
  if (milliseconds !== undefined) world.journal.write({ e: 'settled', milliseconds })
  else violate(world, 'liveness', `not everybody was up to date ${RECOVERY_TIME} ms after the last fault`)
  await everybodyKnown(world, begin)
}

async function everybodyKnown(world: World, begin: number): Promise<void> {
  const isKnown = await world.clients
    .ask({ e: 'await-presence' }, 'presence-known', begin + PRESENCE_TIME - Date.now())
    .catch(() => false)
  if (isKnown) return world.journal.write({ e: 'presence-settled', milliseconds: Date.now() - begin })
  const { differences } = await world.clients.ask({ e: 'compare' }, 'compared', ENDING)
  for (const { invariant, what } of differences as Violation[]) violate(world, invariant, what)
  if ((differences as Violation[]).length === 0) violate(world, 'liveness', 'visitors are not where they want to be')
}

/** Canaries on every topic, until one round of them has reached everybody: after how long, undefined when it never did. */
async function everybodyUpToDate(world: World, firstRound: number): Promise<number | undefined> {
  const begin = Date.now()
  for (let round = firstRound; Date.now() - begin < RECOVERY_TIME; round++) {
    const { canaries } = await world.publishers.ask({ e: 'canary', round }, 'canaries', RECOVERY_TIME)
    const left = Math.max(1, Math.min(ROUND, begin + RECOVERY_TIME - Date.now()))
    const isDone = await world.clients.ask({ e: 'await', canaries }, 'up-to-date', left).catch(() => false)
    if (isDone) return Date.now() - begin
  }
  return undefined
}

function violate(world: World, invariant: string, what: string): void {
  world.journal.write({ e: 'violation', invariant, what })
}

async function end(world: World): Promise<void> {
  await world.endPublishing()
  // What was published until now is behind nobody's last canary.
  if ((await everybodyUpToDate(world, LAST_ROUNDS)) === undefined) {
    violate(world, 'liveness', 'not everybody got what was published last')
  }
  await countConnections(world)
  await world.store.whole()
  await recordHistories(world)
  await world.clients.ask({ e: 'end' }, 'ended', ENDING)
  await countConnections(world, 0)
  const strays = await Promise.all(world.nodes.map(({ clientLink }) => stray(clientLink.target, STRAYS)))
  await findLeaks(world)
  for (const socket of strays.flat()) socket.destroy()
}

interface NodeState {
  connections: number
  heldBytes: number
  metrics: Record<string, number>
  sockets: number
  rss: number
}

async function statesOf(world: World): Promise<NodeState[]> {
  return Promise.all(
    world.nodes.map(async ({ child }) => (await child.ask({ e: 'state' }, 'state', ENDING)) as unknown as NodeState),
  )
}

/** Looks until the nodes have exactly as many connections as there are clients. */
async function countConnections(world: World, clients?: number): Promise<void> {
  const expected = clients ?? ((await world.clients.ask({ e: 'count' }, 'counted', ENDING)).connections as number)
  const deadline = Date.now() + ENDING
  let connections = -1
  while (Date.now() < deadline) {
    connections = (await statesOf(world)).reduce((sum, state) => sum + state.connections, 0)
    if (connections === expected) return
    await sleep(100)
  }
  violate(world, 'leak', `nodes have ${connections} connections, there are ${expected}`)
}

async function recordHistories(world: World): Promise<void> {
  for (const topic of TOPICS) {
    const entries = await world.store.adminOf(topic).xrange(`{push:${topic}}:history`, '-', '+')
    world.journal.write({ e: 'history', topic, entries: entries.map(([, fields]) => entryOf(fields)) })
  }
}

function entryOf(fields: readonly string[]): { id: string; k: string } {
  const { payload } = JSON.parse(fields[5]!) as { payload: { k: string } }
  return { id: fields[1]!, k: payload.k }
}

/** Two to each master, the channel to the controller and the listener; each of the two asks three sentinels for failovers. */
const OWN_SOCKETS = { single: 4, nginx: 4, sentinel: 10, cluster: 8, 'cluster-sharded': 8 }
/** One more to each master, and its sentinels. */
const STREAM_SOCKETS = { single: 1, nginx: 1, sentinel: 4, cluster: 3, 'cluster-sharded': 3 }
/** Two to each of the three brokers of Kafka, and one by which they were found. */
const QUEUE_SOCKETS = { rabbitmq: 1, kafka: 7 }
/** What the publishers' last requests keep alive. */
const KEPT_ALIVE = 2
/** Upgrades of each node that lead nowhere: more than what is let pass. */
const STRAYS = 5
/** Megabytes; a node of these runs has some 150. */
const MAX_RSS = 300

/** The states once no node has more sockets than it may, or when time is up. */
async function settledStates(world: World, sockets: number): Promise<NodeState[]> {
  const deadline = Date.now() + ENDING
  for (;;) {
    const states = await statesOf(world)
    if (Date.now() > deadline || states.every(state => state.sockets <= sockets)) return states
    await sleep(100)
  }
}

function socketsOf({ topology, ingress }: WorldOptions): number {
  const more = ingress.map(kind => (kind === 'streams' ? STREAM_SOCKETS[topology] : QUEUE_SOCKETS[kind]))
  return more.reduce((sum, count) => sum + count, OWN_SOCKETS[topology] + KEPT_ALIVE)
}

async function findLeaks(world: World): Promise<void> {
  const most = socketsOf(world.options)
  for (const [index, state] of (await settledStates(world, most)).entries()) {
    const { connections, heldBytes, sockets, rss, metrics } = state
    world.journal.write({ e: 'state', index, sockets, rss, filled: metrics.publications_filled_total, metrics })
    if (connections > 0 || heldBytes > 0) violate(world, 'leak', `node ${index} holds ${JSON.stringify(state)}`)
    if (sockets > most) violate(world, 'leak', `node ${index} has ${sockets} sockets`)
    if (rss > MAX_RSS * 2 ** 20) violate(world, 'leak', `node ${index} has ${Math.round(rss / 2 ** 20)} MB`)
  }
  await findSubscriptions(world)
  await findMembers(world)
}

/** Of both kinds of pub/sub. */
const LISTS = ['CHANNELS', 'SHARDCHANNELS']

/** When all clients are gone each master has the nodes themselves, and nothing else. */
async function findSubscriptions(world: World): Promise<void> {
  const expected = world.nodes.length + 1
  for (const { server } of world.store.masters) {
    const channels = async () => {
      const held = await Promise.all(LISTS.map(list => server.admin.call('PUBSUB', list, 'push:*')))
      return held.flat() as string[]
    }
    const deadline = Date.now() + ENDING
    let held = await channels()
    while (held.length !== expected && Date.now() < deadline) {
      await sleep(100)
      held = await channels()
    }
    if (held.length !== expected) violate(world, 'leak', `subscriptions are left: ${held.join(' ')}`)
    const [, nodes] = (await server.admin.pubsub('NUMSUB', 'push:nodes')) as [string, number]
    if (Number(nodes) !== world.nodes.length) violate(world, 'leak', `${nodes} nodes are subscribed`)
  }
}

/** Who was there is forgotten with the grace. A node that died had a lease, which ends. */
async function findMembers(world: World): Promise<void> {
  const deadline = Date.now() + ENDING
  for (const topic of ['all', ...LOBBIES]) {
    const key = `{push:${topic}}:members`
    while ((await world.store.adminOf(topic).exists(key)) && Date.now() < deadline) await sleep(100)
    const admin = world.store.adminOf(topic)
    const left = await admin.hkeys(key)
    if (left.length === 0) continue
    const state = JSON.stringify([await admin.pttl(key), await admin.hgetall(`{push:${topic}}:presence`)])
    violate(world, 'leak', `members are left on ${topic}: ${left.join(' ')} (${state})`)
  }
}

/** Bounds a whole run: whatever hangs is a finding. */
export function runBounded(options: SeedOptions): Promise<Verdict> {
  return within(runSeed(options), `seed ${options.seed} ends`, options.seconds * 1000 + 240_000)
}

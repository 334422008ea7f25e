import { positionOf, timelineOf } from '../../src/protocol/position.ts'
import { ChaosClient } from './client.ts'
import { Journal } from './journal.ts'
import { type Hosted, LibraryClient } from './library-client.ts'
import { LibraryVisitor } from './library-visitor.ts'
import { Random } from './random.ts'
import { RawVisitor } from './raw-visitor.ts'
import { BULK, CHANNELS, LOBBIES, ROOMS, SMALL, USERS } from './topics.ts'
import type { Visitor } from './visitor.ts'
import { Who } from './who.ts'

/** Hosts the clients of a run. */
export interface ClientsConfig {
  urls: readonly string[]
  count: number
  visitors: number
  seed: number
  journal: string
  visitorsJournal: string
}

export type ClientsCommand =
  | { e: 'drop'; share: number }
  | { e: 'await'; canaries: Record<string, { k: string; id: string }> }
  | { e: 'settle' }
  | { e: 'await-presence' }
  | { e: 'compare' }
  | { e: 'count' }
  | { e: 'end' }

const CHURN_INTERVAL = 60
/** One client of so many is the project's own library. */
const LIBRARY_SHARE = 4
/** Visitors that are one user, as tabs are. */
const USERS_OF_VISITORS = 10
/** One visitor of so many stays away in the end. */
const ABSENT_SHARE = 3

const config = JSON.parse(process.env.CONFIG!) as ClientsConfig
const journal = new Journal(config.journal)
const visitorsJournal = new Journal(config.visitorsJournal)
const random = new Random(config.seed)
let look = () => {}

const clients = Array.from({ length: config.count }, (_, i): Hosted => {
  const topics = [CHANNELS[i % CHANNELS.length]!, CHANNELS[(i * 7 + 3) % CHANNELS.length]!]
  if (i % 5 === 0) topics.push(SMALL)
  if (i % 12 === 0) topics.push(BULK)
  const Kind = i % LIBRARY_SHARE === 1 ? LibraryClient : ChaosClient
  return new Kind({
    name: `c${i}`,
    url: () => random.pick(config.urls),
    user: USERS[i % USERS.length]!.slice('user:'.length),
    room: ROOMS[i % ROOMS.length]!,
    topics: [...new Set(topics)],
    journal,
    changed: () => look(),
  })
})

const visitors = Array.from({ length: config.visitors }, (_, i): Visitor => {
  const Kind = i % 2 === 1 ? LibraryVisitor : RawVisitor
  return new Kind({
    name: `v${i}`,
    url: () => random.pick(config.urls),
    user: `v${i % USERS_OF_VISITORS}`,
    // All connections of a user are in the same one.
    lobby: LOBBIES[((i % USERS_OF_VISITORS) >> 1) % LOBBIES.length]!,
    journal: visitorsJournal,
    random,
    changed: () => look(),
  })
})
const who = new Who(clients, visitors)

const churning = setInterval(() => {
  const client = random.pick(clients)
  client.churn(random.pick(client.topics))
}, CHURN_INTERVAL)

/** Resolves as soon as `check` is true; looks again whenever a client was told something. */
function until(check: () => boolean): Promise<void> {
  if (check()) return Promise.resolve()
  return new Promise(resolve => {
    look = () => check() && resolve()
  })
}

type Canaries = Extract<ClientsCommand, { e: 'await' }>['canaries']

/** A gap may have led a client beyond the canary: then it does not get it. */
function isUpToDate(client: Hosted, canaries: Canaries): boolean {
  return client.isSubscribed && client.topics.every(topic => isBeyond(client, topic, canaries[topic]!))
}

function isBeyond(client: Hosted, topic: string, { k, id }: { k: string; id: string }): boolean {
  if (client.canaries.has(k)) return true
  const last = client.last.get(topic) ?? ''
  return timelineOf(last) === timelineOf(id) && (positionOf(last)?.seq ?? -1) >= positionOf(id)!.seq
}

async function obey(command: ClientsCommand): Promise<void> {
  if (command.e === 'drop') for (const client of clients) if (Math.random() < command.share) client.drop()
  if (command.e === 'await') {
    clearInterval(churning)
    await until(() => clients.every(client => isUpToDate(client, command.canaries)))
    process.send!({ e: 'up-to-date' })
  }
  if (command.e === 'settle') for (const [i, visitor] of visitors.entries()) visitor.settle(i % ABSENT_SHARE > 0)
  if (command.e === 'await-presence') {
    await until(() => who.isKnown)
    process.send!({ e: 'presence-known' })
  }
  if (command.e === 'count') {
    const connections = clients.length + visitors.filter(({ isComing }) => isComing).length
    process.send!({ e: 'counted', connections })
  }
  if (command.e === 'compare') process.send!({ e: 'compared', differences: who.differences() })
  if (command.e === 'end') {
    const everybody = [...clients, ...visitors]
    for (const client of everybody) client.end()
    await until(() => everybody.every(client => client.isClosed))
    journal.close()
    visitorsJournal.close()
    process.send!({ e: 'ended' })
    process.disconnect()
  }
}

process.on('message', command => void obey(command as ClientsCommand))
process.on('disconnect', () => process.exit(0))
// A run that is given up wants the log as well.
process.on('SIGTERM', () => {
  journal.flush()
  visitorsJournal.flush()
  process.exit(1)
})
const areThere = () => clients.every(client => client.isSubscribed) && visitors.every(visitor => visitor.isThere)
void until(areThere).then(() => {
  for (const visitor of visitors) visitor.begin()
  process.send!({ e: 'ready' })
})

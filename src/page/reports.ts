/**
 * What the nodes answered, as far as the page reads it. Nodes of a rolling upgrade may say more or less than this page
 * knows: what is missing or no number is 0, and lists end somewhere.
 */

export interface Sample {
  at: number
  connections: number
  received: number
  delivered: number
  refused: number
  writtenBytes: number
  lag: number
  loopDelay: number
  rss: number
}

export interface Busy {
  topic: string
  connections: number
  publications: number
}

export interface Percentiles {
  p50: number
  p99: number
}

export interface NodeReport {
  node: string
  registration: string
  version: string
  startedAt: number
  now: number
  draining: boolean
  connected: boolean
  problem: string
  connections: number
  topics: number
  pendingUpgrades: number
  stalledConnections: number
  heldBytes: number
  lag: number
  rss: number
  cpu: number
  loopDelay: Percentiles
  latency: Percentiles | undefined
  counters: Readonly<Record<string, number>>
  samples: readonly Sample[]
  busiest: readonly Busy[]
}

export interface Nodes {
  nodes: readonly NodeReport[]
  expected: number | undefined
  complete: boolean
  /** Why other nodes could not be asked. */
  problem: string
}

const MAX_NODES = 500
const MAX_SAMPLES = 240
const MAX_BUSIEST = 100
const MAX_COUNTERS = 2000

export type Fields = Readonly<Record<string, unknown>>

/** Of whatever came: an object, else one without anything. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {}
}

export function listOf(value: unknown, most: number): readonly unknown[] {
  return Array.isArray(value) ? value.slice(0, most) : []
}

export function numberOf(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 2000) : ''
}

/** Throws if it is no answer at all, such as that of another server. */
export function readNodes(answer: unknown): Nodes {
  const { nodes, expected, complete, problem } = fieldsOf(answer)
  if (!Array.isArray(nodes))
    throw new Error('the answer has no nodes: does a proxy lead this address to something else?')
  return {
    nodes: listOf(nodes, MAX_NODES).map(readNode),
    expected: typeof expected === 'number' ? expected : undefined,
    complete: complete === true,
    problem: textOf(problem),
  }
}

function readNode(value: unknown): NodeReport {
  const it = fieldsOf(value)
  const memory = fieldsOf(it.memory)
  return {
    node: textOf(it.node),
    registration: textOf(it.registration),
    version: textOf(it.version),
    startedAt: numberOf(it.startedAt),
    now: numberOf(it.now),
    draining: it.draining === true,
    connected: it.connected === true,
    problem: textOf(it.problem),
    connections: numberOf(it.connections),
    topics: numberOf(it.topics),
    pendingUpgrades: numberOf(it.pendingUpgrades),
    stalledConnections: numberOf(it.stalledConnections),
    heldBytes: numberOf(it.heldBytes),
    lag: numberOf(it.lag),
    rss: numberOf(memory.rss),
    cpu: numberOf(it.cpu),
    loopDelay: readPercentiles(it.loopDelay) ?? { p50: 0, p99: 0 },
    latency: readPercentiles(it.latency),
    counters: readCounts(it.counters),
    samples: listOf(it.samples, MAX_SAMPLES).map(readSample),
    busiest: listOf(it.busiest, MAX_BUSIEST).map(readBusy),
  }
}

function readPercentiles(value: unknown): Percentiles | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { p50, p99 } = fieldsOf(value)
  return { p50: numberOf(p50), p99: numberOf(p99) }
}

/** A map of numbers by name. */
export function readCounts(value: unknown): Record<string, number> {
  const entries = Object.entries(fieldsOf(value)).slice(0, MAX_COUNTERS)
  return Object.fromEntries(entries.map(([name, count]) => [name, numberOf(count)]))
}

function readSample(value: unknown): Sample {
  const it = fieldsOf(value)
  return {
    at: numberOf(it.at),
    connections: numberOf(it.connections),
    received: numberOf(it.received),
    delivered: numberOf(it.delivered),
    refused: numberOf(it.refused),
    writtenBytes: numberOf(it.writtenBytes),
    lag: numberOf(it.lag),
    loopDelay: numberOf(it.loopDelay),
    rss: numberOf(it.rss),
  }
}

function readBusy(value: unknown): Busy {
  const { topic, connections, publications } = fieldsOf(value)
  return { topic: textOf(topic), connections: numberOf(connections), publications: numberOf(publications) }
}

/** One process may have several registrations, each with connections of its own. */
export const keyOf = ({ node, registration }: Pick<NodeReport, 'node' | 'registration'>) => `${node} ${registration}`

/** One report for each process, for what all its registrations share: memory, processor, event loop. */
export function onePerProcess(nodes: readonly NodeReport[]): NodeReport[] {
  return [...new Map(nodes.map(it => [it.node, it])).values()]
}

export const sumOf = <T>(list: readonly T[], value: (item: T) => number) => list.reduce((sum, it) => sum + value(it), 0)

export const mostOf = <T>(list: readonly T[], value: (item: T) => number) =>
  list.reduce((most, it) => Math.max(most, value(it)), 0)

/** The busiest topics of all nodes together. A node names only its own, so the end of the list may be too low. */
export function busiestOf(nodes: readonly NodeReport[], most: number): Busy[] {
  const all = new Map<string, Busy>()
  for (const { topic, connections, publications } of nodes.flatMap(it => it.busiest)) {
    const sum = all.get(topic)
    // Every node that holds the topic gets every publication: they are not added.
    if (sum) {
      sum.connections += connections
      sum.publications = Math.max(sum.publications, publications)
    } else all.set(topic, { topic, connections, publications })
  }
  const order = (a: Busy, b: Busy) => b.publications - a.publications || (a.topic < b.topic ? -1 : 1)
  return [...all.values()].sort(order).slice(0, most)
}

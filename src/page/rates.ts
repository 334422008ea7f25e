import { keyOf, type NodeReport } from './reports.ts'

/** Over how long a rate is measured: two answers alone would jump about. */
const WINDOW = 10_000

/** So many answers are kept, whatever the clocks say. */
const MAX_KEPT = 8

/** What one registration did a second, between two of its reports. */
export interface Rates {
  counters: Readonly<Record<string, number>>
  /** Processor time of its process, 1 for a whole core. */
  cpu: number
}

/** Undefined if they are not of the same process, or no time has passed between them. */
export function ratesBetween(before: NodeReport, after: NodeReport): Rates | undefined {
  const seconds = (after.now - before.now) / 1000
  if (before.startedAt !== after.startedAt || !(seconds > 0)) return undefined
  const counters: Record<string, number> = {}
  for (const [name, count] of Object.entries(after.counters)) {
    const more = count - (before.counters[name] ?? 0)
    if (more > 0) counters[name] = more / seconds
  }
  return { counters, cpu: Math.max(0, after.cpu - before.cpu) / seconds }
}

interface Kept {
  at: number
  nodes: ReadonlyMap<string, NodeReport>
}

/** Rates of all registrations, from the answers of the last seconds. */
export class RateWindow {
  #kept: Kept[] = []

  /** `at`: when the answer came, by the clock of the page. */
  take(nodes: readonly NodeReport[], at: number): ReadonlyMap<string, Rates> {
    const now = { at, nodes: new Map(nodes.map(it => [keyOf(it), it])) }
    this.#kept = [...this.#kept.filter(it => it.at < at && at - it.at <= WINDOW), now].slice(-MAX_KEPT)
    const rates = new Map<string, Rates>()
    for (const [key, report] of now.nodes) {
      // A node that did not answer one question has an older report, or none.
      const before = this.#kept.find(it => it !== now && it.nodes.has(key))?.nodes.get(key)
      const found = before && ratesBetween(before, report)
      if (found) rates.set(key, found)
    }
    return rates
  }

  forget(): void {
    this.#kept = []
  }
}

export interface Reason {
  /** `connections closed`. */
  what: string
  /** `4503`, or nothing. */
  reason: string
  rate: number
  total: number
}

/** Counters of what did not go its way. Of those in REASONED only what has a reason is worth a line. */
const BAD = {
  requests_refused_total: 'requests refused',
  upgrades_refused_total: 'upgrades refused',
  messages_refused_total: 'client messages refused',
  api_refused_total: 'API calls refused',
  publications_failed_total: 'publications failed',
  publications_rejected_total: 'envelopes rejected',
  deliveries_skipped_total: 'deliveries skipped',
  messages_dropped_total: 'messages dropped',
  events_dropped_total: 'events dropped',
  gaps_total: 'gaps told',
  connections_closed_total: 'connections closed',
  late_results_total: 'results too late',
} as const

/** `upgrades_refused_total{PUSH_ERR_ORIGIN}` */
export function readCounter(name: string): { counter: string; reason: string } {
  const [, counter = name, reason = ''] = /^([^{]*)\{(.*)\}$/s.exec(name) ?? []
  return { counter, reason }
}

/** What was refused, skipped, dropped or closed on all nodes, what happens now first. */
export function reasonsOf(nodes: readonly NodeReport[], rates: ReadonlyMap<string, Rates>, most: number): Reason[] {
  const all = new Map<string, Reason>()
  for (const node of nodes) {
    const { counters = {} } = rates.get(keyOf(node)) ?? {}
    for (const [name, total] of Object.entries(node.counters)) {
      const { counter, reason } = readCounter(name)
      const what = Object.hasOwn(BAD, counter) ? BAD[counter as keyof typeof BAD] : undefined
      if (what === undefined || total <= 0) continue
      const sum = all.get(name) ?? { what, reason, rate: 0, total: 0 }
      sum.rate += counters[name] ?? 0
      sum.total += total
      all.set(name, sum)
    }
  }
  return [...all.values()].sort((a, b) => b.rate - a.rate || b.total - a.total).slice(0, most)
}

/** The sum of a counter over its reasons: so many a second. */
export function rateOf(rates: Iterable<Rates>, ...wanted: string[]): number {
  let sum = 0
  for (const { counters } of rates) {
    for (const [name, rate] of Object.entries(counters)) if (wanted.includes(readCounter(name).counter)) sum += rate
  }
  return sum
}

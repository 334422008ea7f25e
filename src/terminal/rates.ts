import type { NodeReport, Nodes } from '../node/monitoring/report-schemas.ts'

/** A line of `top`. Rates are those of the time between two answers of the node; unknown after the first. */
export interface NodeLine {
  node: string
  registration: string
  state: string
  connections: number
  topics: number
  received: number | undefined
  delivered: number | undefined
  refused: number | undefined
  bytes: number | undefined
  p50: number | undefined
  p99: number | undefined
  lag: number
  loop: number
  cpu: number | undefined
  rss: number
}

/** What `top` shows at one time. */
export interface Tick {
  at: number
  nodes: NodeLine[]
  expected: number | undefined
  complete: boolean
  problem: string | undefined
  /** How many a second, by reason, over all nodes: the most frequent first. */
  refusals: { reason: string; rate: number }[]
}

/** Counters of what did not go its way. */
const REFUSED =
  /^(?:upgrades_refused|messages_refused|api_refused|publications_rejected|deliveries_skipped|messages_dropped|gaps)_total(?:\{|$)/

/** Those among them that a client or a publisher was refused. */
const REFUSALS = /^(?:upgrades_refused|messages_refused|api_refused|publications_rejected)_total(?:\{|$)/

const keyOf = ({ node, registration }: NodeReport) => `${node} ${registration}`

/** Makes rates of counters: of each node, what it said before is remembered as long as it goes on answering. */
export class Rates {
  #before = new Map<string, NodeReport>()

  next({ nodes, expected, complete, problem }: Nodes, at: number): Tick {
    const before = this.#before
    this.#before = new Map(nodes.map(node => [keyOf(node), node]))
    const reasons = new Map<string, number>()
    const lines = nodes.map(node => {
      const last = before.get(keyOf(node))
      if (last) addReasons(reasons, last, node)
      return lineOf(node, last)
    })
    const refusals = [...reasons].map(([reason, rate]) => ({ reason, rate })).filter(({ rate }) => rate > 0)
    refusals.sort((a, b) => b.rate - a.rate)
    return { at, nodes: lines, expected, complete, problem, refusals }
  }
}

function lineOf(now: NodeReport, last: NodeReport | undefined): NodeLine {
  const rate = (pattern: RegExp) =>
    last && perSecond(sum(now.counters, pattern) - sum(last.counters, pattern), last, now)
  return {
    node: now.node,
    registration: now.registration,
    state: now.draining ? 'draining' : now.connected ? (now.problem ? 'problem' : 'ok') : 'cut off',
    connections: now.connections,
    topics: now.topics,
    received: rate(/^publications_received_total(?:\{|$)/),
    delivered: rate(/^deliveries_total(?:\{|$)/),
    refused: rate(REFUSALS),
    bytes: rate(/^written_bytes_total(?:\{|$)/),
    p50: now.latency?.p50,
    p99: now.latency?.p99,
    lag: now.lag,
    loop: now.loopDelay.p99,
    cpu: last && perSecond((now.cpu - last.cpu) * 100, last, now),
    rss: now.memory.rss,
  }
}

function addReasons(reasons: Map<string, number>, last: NodeReport, now: NodeReport): void {
  for (const [name, count] of Object.entries(now.counters)) {
    if (!REFUSED.test(name)) continue
    const rate = perSecond(count - (last.counters[name] ?? 0), last, now) ?? 0
    const reason = name.replace('_total', '')
    reasons.set(reason, (reasons.get(reason) ?? 0) + rate)
  }
}

function sum(counters: Readonly<Record<string, number>>, pattern: RegExp): number {
  let total = 0
  for (const [name, count] of Object.entries(counters)) if (pattern.test(name)) total += count
  return total
}

/** By the clock of the node: an answer may have been late. */
function perSecond(by: number, last: NodeReport, now: NodeReport): number | undefined {
  const seconds = (now.now - last.now) / 1000
  return seconds > 0 ? Math.max(0, by) / seconds : undefined
}

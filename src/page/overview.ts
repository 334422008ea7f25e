import { Chart } from './chart.ts'
import { byId, el, setText } from './dom.ts'
import { bytesText, countText, durationText, millisecondsText, numberText, shortText } from './format.ts'
import { type Rates, RateWindow, rateOf, reasonsOf } from './rates.ts'
import {
  busiestOf,
  keyOf,
  mostOf,
  type NodeReport,
  type Nodes,
  onePerProcess,
  type Percentiles,
  sumOf,
} from './reports.ts'
import { type Timeline, timelineOf } from './series.ts'
import { type Cell, type Row, Table } from './table.ts'

const MOST_NODES = 200
const MOST_TOPICS = 12
const MOST_REASONS = 30

const perSecond = (value: number) => `${numberText(value)}/s`
const bytesPerSecond = (value: number) => `${bytesText(value)}/s`

/** What of the last answer a chart shows beside its title; where nothing does, its last point. */
type Now = (nodes: readonly NodeReport[], rates: readonly Rates[]) => number | undefined

interface ChartOf {
  title: string
  format: (value: number) => string
  series: (timeline: Timeline) => ReturnType<Timeline['rate']>
  now?: Now
}

const CHARTS: readonly ChartOf[] = [
  {
    title: 'Connections',
    format: numberText,
    series: it => it.sum('connections'),
    now: nodes => sumOf(nodes, it => it.connections),
  },
  {
    title: 'Publications in',
    format: perSecond,
    series: it => it.rate('received'),
    now: (_nodes, rates) => rateNow(rates, 'publications_received_total'),
  },
  {
    title: 'Messages delivered',
    format: perSecond,
    series: it => it.rate('delivered'),
    now: (_nodes, rates) => rateNow(rates, 'deliveries_total'),
  },
  {
    title: 'Written',
    format: bytesPerSecond,
    series: it => it.rate('writtenBytes'),
    now: (_nodes, rates) => rateNow(rates, 'written_bytes_total'),
  },
  { title: 'Refused', format: perSecond, series: it => it.rate('refused') },
  {
    title: 'Behind Redis, the most',
    format: millisecondsText,
    series: it => it.most('lag'),
    now: nodes => mostOf(nodes, it => it.lag),
  },
  {
    title: 'Event loop late, p99',
    format: millisecondsText,
    series: it => it.most('loopDelay'),
    now: nodes => mostOf(nodes, it => it.loopDelay.p99),
  },
  {
    title: 'Memory',
    format: bytesText,
    series: it => it.sumOfProcesses('rss'),
    now: nodes => sumOf(onePerProcess(nodes), it => it.rss),
  },
]

function rateNow(rates: readonly Rates[], counter: string): number | undefined {
  return rates.length > 0 ? rateOf(rates, counter) : undefined
}

/** What the nodes do, as the last answer has it. */
export class Overview {
  readonly #rates = new RateWindow()
  readonly #charts = CHARTS.map(it => ({ ...it, chart: new Chart(it.title, it.format) }))
  readonly #figures = new Map<string, HTMLElement>()
  readonly #nodes = new Table(byId('nodes'), [
    { title: 'Node' },
    { title: 'State' },
    { title: 'Connections', isNumber: true },
    { title: 'Topics', isNumber: true },
    { title: 'In', isNumber: true, hint: 'publications that it received, a second' },
    { title: 'Delivered', isNumber: true, hint: 'messages queued for connections, a second' },
    { title: 'Written', isNumber: true },
    { title: 'p50', isNumber: true, hint: 'from received to written, half of all' },
    { title: 'p99', isNumber: true, hint: 'from received to written, all but one in a hundred' },
    { title: 'Behind', isNumber: true, hint: 'how late publications of Redis reach it' },
    { title: 'Loop', isNumber: true, hint: 'how late timers run, p99' },
    { title: 'Waiting', isNumber: true, hint: 'bytes for connections whose sockets are full' },
    { title: 'CPU', isNumber: true, hint: 'of one core' },
    { title: 'Memory', isNumber: true },
    { title: 'Up', isNumber: true },
    { title: 'Version' },
  ])
  readonly #topics: Table
  readonly #reasons = new Table(byId('reasons'), [
    { title: 'What' },
    { title: 'Reason' },
    { title: 'Now', isNumber: true },
    { title: 'Since start', isNumber: true },
  ])

  /** `explain`: somebody wants to know more about this topic. */
  constructor(explain: (topic: string) => void) {
    byId('charts').replaceChildren(...this.#charts.map(({ chart }) => chart.element))
    const columns = [
      { title: 'Topic' },
      { title: 'Connections', isNumber: true },
      { title: 'Publications', isNumber: true },
    ]
    this.#topics = new Table(byId('topics'), columns, explain)
  }

  /** `at`: when the answer came. `hasSamples`: whether it was asked for what the charts need. */
  show(answer: Nodes, at: number, hasSamples: boolean): void {
    const { nodes } = answer
    const rates = this.#rates.take(nodes, at)
    this.#showFigures(nodes, rates)
    this.#showCharts(nodes, [...rates.values()], hasSamples ? at : undefined)
    this.#nodes.show(nodes.slice(0, MOST_NODES).map(node => nodeRow(node, rates.get(keyOf(node)))))
    setText(byId('nodes-note'), noteOf(answer))
    const topics = busiestOf(nodes, MOST_TOPICS)
    this.#topics.show(topics.map(topicRow))
    byId('topics-none').hidden = topics.length > 0
    const reasons = reasonsOf(nodes, rates, MOST_REASONS)
    this.#reasons.show(reasons.map(reasonRow))
    byId('reasons-none').hidden = reasons.length > 0
  }

  /** Nothing of what one key saw is left for the next. */
  forget(): void {
    this.#rates.forget()
    for (const table of [this.#nodes, this.#topics, this.#reasons]) table.show([])
    for (const { chart } of this.#charts) chart.show([], 0, undefined)
    for (const figure of this.#figures.values()) setText(figure, '–')
  }

  #showCharts(nodes: readonly NodeReport[], rates: readonly Rates[], at: number | undefined): void {
    const timeline = at === undefined ? undefined : timelineOf(nodes, at)
    for (const { chart, series, now } of this.#charts) {
      const line = timeline && series(timeline)
      if (line) chart.show(line, timeline.end, now ? now(nodes, rates) : line.at(-1))
      else if (now) chart.showNow(now(nodes, rates))
    }
  }

  #showFigures(nodes: readonly NodeReport[], rates: ReadonlyMap<string, Rates>): void {
    const latencies = nodes.flatMap(({ latency }) => latency ?? [])
    const worst = (of: keyof Percentiles) => (latencies.length > 0 ? mostOf(latencies, it => it[of]) : Number.NaN)
    const processes = onePerProcess(nodes)
    const cpu = sumOf(processes, it => rates.get(keyOf(it))?.cpu ?? 0)
    const stalled = sumOf(nodes, it => it.stalledConnections)
    this.#figure('Nodes', numberText(processes.length))
    this.#figure('Topics', numberText(sumOf(nodes, it => it.topics)), 'of each node, added')
    this.#figure('Latency p50', millisecondsText(worst('p50')), 'from received to written, slowest node')
    this.#figure('Latency p99', millisecondsText(worst('p99')), 'from received to written, slowest node')
    this.#figure('Waiting', bytesText(sumOf(nodes, it => it.heldBytes)), 'bytes for connections whose sockets are full')
    this.#figure('Connecting', numberText(sumOf(nodes, it => it.pendingUpgrades)), 'upgrades that are not finished')
    this.#figure('Stalled', numberText(stalled), 'connections whose sockets are full')
    this.#figure('CPU', rates.size > 0 ? `${numberText(cpu * 100)} %` : '–', 'of one core, all nodes added')
  }

  #figure(name: string, text: string, hint = ''): void {
    const known = this.#figures.get(name)
    if (known) return setText(known, text)
    const value = el('dd', {}, text)
    this.#figures.set(name, value)
    byId('figures').append(el('div', hint ? { title: hint } : {}, el('dt', {}, name), value))
  }
}

/** A node that does not answer is missed by number. */
function noteOf({ nodes, expected, complete, problem }: Nodes): string {
  const answered = onePerProcess(nodes).length
  const hidden = nodes.length > MOST_NODES ? `, the first ${MOST_NODES} are listed` : ''
  if (complete) return `${countText(answered, 'node')}, all answered${hidden}`
  const missing = expected !== undefined && expected > answered ? `${answered} of ${expected} answered` : ''
  return `${missing || `${answered} answered, perhaps not all`}${hidden}${problem && `: ${problem}`}`
}

function stateOf({ draining, connected, problem }: NodeReport): Cell {
  if (!connected) return { text: 'cut off', title: problem || 'not connected to its broker', mark: 'bad' }
  if (draining) return { text: 'draining', title: 'it closes its connections' }
  return problem ? { text: 'degraded', title: problem, mark: 'bad' } : 'well'
}

function nodeRow(node: NodeReport, rates: Rates | undefined): Row {
  const rate = (counter: string, format: (value: number) => string) => (rates ? format(rateOf([rates], counter)) : '–')
  const name = node.registration === 'push' ? node.node : `${node.node} ${node.registration}`
  return {
    key: keyOf(node),
    cells: [
      { text: shortText(name, 24), title: name },
      stateOf(node),
      numberText(node.connections),
      numberText(node.topics),
      rate('publications_received_total', perSecond),
      rate('deliveries_total', perSecond),
      rate('written_bytes_total', bytesPerSecond),
      node.latency ? millisecondsText(node.latency.p50) : '–',
      node.latency ? millisecondsText(node.latency.p99) : '–',
      millisecondsText(node.lag),
      millisecondsText(node.loopDelay.p99),
      bytesText(node.heldBytes),
      rates ? `${numberText(rates.cpu * 100)} %` : '–',
      bytesText(node.rss),
      durationText(node.now - node.startedAt),
      { text: node.version, mark: 'quiet' },
    ],
  }
}

function topicRow({ topic, connections, publications }: ReturnType<typeof busiestOf>[number]): Row {
  const name = { text: shortText(topic, 48), title: `explain ${topic}`, action: topic }
  return { key: topic, cells: [name, numberText(connections), numberText(publications)] }
}

function reasonRow({ what, reason, rate, total }: ReturnType<typeof reasonsOf>[number]): Row {
  const now: Cell = rate > 0 ? { text: perSecond(rate) } : { text: '–', mark: 'quiet' }
  return { key: `${what} ${reason}`, cells: [what, reason || '–', now, numberText(total)] }
}

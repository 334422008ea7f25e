import type { Counter, Gauge, Histogram } from 'prom-client'
import type { CounterName } from '../../broker/metrics.ts'
import { within } from '../../broker/waiting.ts'
import type { MetricsOptions, MetricsRegister } from '../../options/monitoring.ts'
import { errors } from '../../protocol/errors.ts'
import { loopDelay } from './loop-delay.ts'
import type { Measured, MeasuredHub } from './measured.ts'
import { COUNTERS, type CounterSeries, GAUGES, type GaugeSeries, HISTOGRAMS, LOOP_DELAY } from './series.ts'

type PromClient = typeof import('prom-client')

/** A scrape waits this many milliseconds for Redis to say how many nodes there are. */
const NODES_WAIT = 500

/** Which registration of the process a value is of: the option `name`. */
const OF = 'registration'

/** What is exposed in each register, by prefix: registrations that share both share their metrics. */
const expositions = new WeakMap<object, Map<string, Exposition>>()

/** Puts the metrics of a registration into a register. Returns what takes them out again. */
export async function expose(
  hub: MeasuredHub,
  { prefix, register }: MetricsOptions,
  ways: Pick<Measured, 'events' | 'ingress'>,
): Promise<() => void> {
  const client = await load()
  const into = register ?? (client.register as MetricsRegister)
  const byPrefix = expositions.get(into) ?? new Map<string, Exposition>()
  expositions.set(into, byPrefix)
  const exposition = byPrefix.get(prefix) ?? new Exposition(client, into, prefix)
  byPrefix.set(prefix, exposition)
  const source = new Source(hub, ways)
  exposition.add(source)
  return () => {
    exposition.delete(source)
    if (exposition.isEmpty) byPrefix.delete(prefix)
  }
}

/** Only here, and only if somebody wants metrics: an application without them need not install prom-client. */
export async function load(): Promise<PromClient> {
  try {
    return await import('prom-client')
  } catch (cause) {
    throw new errors.OPTIONS(`option metrics needs the package prom-client: npm install prom-client (${cause})`)
  }
}

type Counts = ReadonlyMap<string, readonly (readonly [reason: string, count: number])[]>

/** One registration. */
class Source implements Measured {
  readonly #hub: MeasuredHub
  readonly name: string
  readonly broker: MeasuredHub['broker']
  readonly registry: MeasuredHub['registry']
  readonly options: MeasuredHub['options']
  readonly presence: MeasuredHub['presence']
  readonly events: Measured['events']
  readonly ingress: Measured['ingress']
  nodes: number | undefined
  /** Ends what rounds of writes tell. */
  unwatch = () => {}
  #counts: Counts | undefined
  #asking: Promise<void> | undefined

  constructor(hub: MeasuredHub, { events, ingress }: Pick<Measured, 'events' | 'ingress'>) {
    const { broker, registry, options, presence } = hub
    this.#hub = hub
    this.name = options.name
    this.broker = broker
    this.registry = registry
    this.options = options
    this.presence = presence
    this.events = events
    this.ingress = ingress
  }

  get isDraining(): boolean {
    return this.#hub.isDraining
  }

  get waiting(): MeasuredHub['waiting'] {
    return this.#hub.waiting
  }

  get rounds(): MeasuredHub['rounds'] {
    return this.#hub.rounds
  }

  /** Scrapes that come together ask once. */
  askForNodes(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    return this.#asking
  }

  async #ask(): Promise<void> {
    this.nodes = await within(
      NODES_WAIT,
      this.broker.nodes().catch(() => undefined),
    )
  }

  /** Read once for all counters of a scrape. */
  counts(name: string): readonly (readonly [reason: string, count: number])[] {
    if (!this.#counts) {
      this.#counts = countsOf(this.#hub.metrics.snapshot())
      setImmediate(() => {
        this.#counts = undefined
      })
    }
    return this.#counts.get(name) ?? []
  }
}

function countsOf(snapshot: Readonly<Record<string, number>>): Counts {
  const counts = new Map<string, (readonly [string, number])[]>()
  for (const [key, count] of Object.entries(snapshot)) {
    const [name, reason = ''] = key.split(/\{(.*)\}$/s)
    counts.set(name!, [...(counts.get(name!) ?? []), [reason, count]])
  }
  return counts
}

type Labels = Readonly<Record<string, string>>

/**
 * The metrics of one register and prefix. Counters and gauges are read when they are scraped, so that they cost nothing
 * until then; only histograms are fed.
 */
class Exposition {
  readonly #register: MetricsRegister
  readonly #prefix: string
  readonly #sources = new Set<Source>()
  readonly #names: string[] = []
  readonly #histograms = new Map<keyof typeof HISTOGRAMS, Histogram>()
  readonly #delays: Histogram
  #unwatchDelays: (() => void) | undefined

  constructor(client: PromClient, register: MetricsRegister, prefix: string) {
    this.#register = register
    this.#prefix = prefix
    try {
      for (const [name, series] of Object.entries(COUNTERS)) this.#addCounter(client, name as CounterName, series)
      for (const [name, series] of Object.entries(GAUGES)) this.#addGauge(client, name, series)
      for (const [name, series] of Object.entries(HISTOGRAMS)) {
        const buckets = [...series.buckets]
        const histogram = new client.Histogram({ ...this.#about(name, series, [OF]), buckets })
        this.#histograms.set(name as keyof typeof HISTOGRAMS, histogram)
      }
      const { name, buckets } = LOOP_DELAY
      this.#delays = new client.Histogram({ ...this.#about(name, LOOP_DELAY, []), buckets: [...buckets] })
    } catch (cause) {
      this.#remove()
      throw new errors.OPTIONS(`option metrics.prefix: the register has a name already: ${(cause as Error).message}`)
    }
  }

  get isEmpty(): boolean {
    return this.#sources.size === 0
  }

  add(source: Source): void {
    this.#sources.add(source)
    this.#unwatchDelays ??= loopDelay.watch(seconds => this.#delays.observe(seconds))
    const of = (name: keyof typeof HISTOGRAMS) => this.#histograms.get(name)!.labels({ [OF]: source.name })
    const [latency, bytes, connections] = [of('publish_to_write_seconds'), of('flush_bytes'), of('flush_connections')]
    source.unwatch = source.rounds.watch(round => {
      if (round.age !== undefined) latency.observe((round.age + source.broker.lag) / 1000)
      bytes.observe(round.bytes)
      connections.observe(round.connections)
    })
  }

  /** With the last registration its metrics go as well. */
  delete(source: Source): void {
    source.unwatch()
    this.#sources.delete(source)
    if (!this.isEmpty) return
    this.#unwatchDelays?.()
    this.#remove()
  }

  #remove(): void {
    for (const name of this.#names) this.#register.removeSingleMetric(name)
  }

  /** What all metrics have in common. A name that throws when it is registered is not ours to remove. */
  #about(name: string, { help }: { help: string }, labelNames: readonly string[]) {
    const full = this.#prefix + name
    const registers = [
      {
        registerMetric: (metric: never) => {
          this.#register.registerMetric(metric)
          this.#names.push(full)
        },
      },
    ]
    return { name: full, help, labelNames: [...labelNames], registers: registers as never }
  }

  #addCounter(client: PromClient, name: CounterName, series: CounterSeries): void {
    const { label, known = [] } = series
    const sources = this.#sources
    const fill = (counter: Counter) => {
      counter.reset()
      for (const source of sources) {
        const of: Labels = { [OF]: source.name }
        if (!label) counter.inc(of, 0)
        else for (const reason of known) counter.inc({ ...of, [label]: reason }, 0)
        for (const [reason, count] of source.counts(name)) {
          counter.inc(label ? { ...of, [label]: reason } : of, count)
        }
      }
    }
    new client.Counter({
      ...this.#about(name, series, label ? [OF, label] : [OF]),
      collect(this: Counter) {
        fill(this)
      },
    })
  }

  #addGauge(client: PromClient, name: string, series: GaugeSeries): void {
    const { label } = series
    const sources = this.#sources
    new client.Gauge({
      ...this.#about(name, series, label ? [OF, label] : [OF]),
      async collect(this: Gauge) {
        if (name === 'nodes') await Promise.all([...sources].map(source => source.askForNodes()))
        this.reset()
        for (const [labels, value] of valuesOf(sources, series)) this.set(labels, value)
      },
    })
  }
}

/** Each value with its labels; those of registrations that have one name are merged. */
function valuesOf(sources: Iterable<Source>, { label, read, merge = add }: GaugeSeries): Iterable<[Labels, number]> {
  const values = new Map<string, [Labels, number]>()
  for (const source of sources) {
    const value = read(source)
    if (value === undefined) continue
    const each = typeof value === 'number' ? { '': value } : value
    for (const [name, number] of Object.entries(each)) {
      const labels: Labels = { [OF]: source.name, ...(label && { [label]: name }) }
      const key = `${source.name} ${name}`
      const known = values.get(key)
      values.set(key, [labels, known ? merge(known[1], number) : number])
    }
  }
  return values.values()
}

const add = (a: number, b: number) => a + b

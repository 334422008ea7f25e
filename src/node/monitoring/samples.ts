import type { CounterName, Metrics } from '../../broker/metrics.ts'
import { MAX_SAMPLES, type Sample } from './report-schemas.ts'

const REFUSALS: readonly CounterName[] = [
  'upgrades_refused_total',
  'messages_refused_total',
  'api_refused_total',
  'publications_rejected_total',
]

/** What is sampled at this moment. */
export type Moment = Pick<Sample, 'at' | 'connections' | 'lag' | 'loopDelay' | 'rss'>

type Totals = Pick<Sample, 'received' | 'delivered' | 'refused' | 'writtenBytes'>

/** The last ten minutes of a registration, in numbers. */
export class Samples {
  readonly #metrics: Metrics
  readonly #samples: Sample[] = []
  #next = 0
  #totals: Totals

  constructor(metrics: Metrics) {
    this.#metrics = metrics
    this.#totals = this.#read()
  }

  take(moment: Moment): void {
    const totals = this.#read()
    const before = this.#totals
    this.#totals = totals
    const received = totals.received - before.received
    const delivered = totals.delivered - before.delivered
    const refused = totals.refused - before.refused
    const writtenBytes = totals.writtenBytes - before.writtenBytes
    this.#samples[this.#next] = { ...moment, received, delivered, refused, writtenBytes }
    this.#next = (this.#next + 1) % MAX_SAMPLES
  }

  /** The oldest first. */
  get all(): Sample[] {
    return [...this.#samples.slice(this.#next), ...this.#samples.slice(0, this.#next)]
  }

  #read(): Totals {
    const total = (name: CounterName) => this.#metrics.total(name)
    return {
      received: total('publications_received_total'),
      delivered: total('deliveries_total'),
      refused: REFUSALS.reduce((sum, name) => sum + total(name), 0),
      writtenBytes: total('written_bytes_total'),
    }
  }
}

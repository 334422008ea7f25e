import type { Outgoing } from '../broker/broker.ts'
import type { Metrics } from '../broker/metrics.ts'
import { tracing } from '../broker/tracing.ts'
import { Failed, type Result } from './result.ts'

/** Who published: the application itself, a caller of the HTTP push API, a client, or somebody through a queue. */
export type Source = 'app' | 'http' | 'client' | 'ingress'

/** Counts what was published, and why what was not. */
export class Tally {
  readonly #metrics: Metrics
  #sent = 0

  constructor(metrics: Metrics, source: Source) {
    this.#metrics = metrics
    metrics.follow('publications_sent_total', () => this.#sent, source)
  }

  /** `command`: not a message, but what connections are told to do. */
  count(results: readonly Result[], kind: 'command' | undefined): void {
    for (const result of results) {
      if (result instanceof Failed) this.#metrics.count('publications_failed_total', 1, result.error.code)
      else if (kind) this.#metrics.count('publications_sent_total', 1, kind)
      else this.#sent++
    }
  }
}

/** A type has no character that JSON would escape, and it comes first in what we write ourselves. */
const TYPE = /^\{"type":"([^"]*)"/

export function tracePublish(outgoing: readonly Outgoing[]): void {
  for (const { topic, envelope, history } of outgoing) {
    const [, type] = TYPE.exec(envelope) ?? []
    tracing.publish.publish({ topic, type, bytes: Buffer.byteLength(envelope), isRecorded: history !== undefined })
  }
}

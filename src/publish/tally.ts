import type { Outgoing } from '../broker/broker.ts'
import { tracing } from '../broker/tracing.ts'
import type { Metrics } from '../metrics.ts'
import { Failed, type Result } from './result.ts'

/** Who published: the application itself, a caller of the HTTP push API, or a client. */
export type Source = 'app' | 'http' | 'client'

/** Counts what was published, and why what was not. */
export class Tally {
  readonly #metrics: Metrics
  readonly #source: Source

  constructor(metrics: Metrics, source: Source) {
    this.#metrics = metrics
    this.#source = source
  }

  /** `command`: not a message, but what connections are told to do. */
  count(results: readonly Result[], kind: 'command' | undefined): void {
    const failed = results.filter(result => result instanceof Failed)
    for (const { error } of failed) this.#metrics.count('publications_failed_total', 1, error.code)
    const sent = results.length - failed.length
    if (sent > 0) this.#metrics.count('publications_sent_total', sent, kind ?? this.#source)
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

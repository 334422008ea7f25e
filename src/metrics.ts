/** Counters of one node. Whatever is dropped, refused or closed is counted; `reason` says why. */
export class Metrics {
  readonly #counters = new Map<string, number>()

  /** `reason` becomes part of the key: `publications_rejected_total{json}`. */
  count(name: CounterName, by = 1, reason?: string | number): void {
    const key = reason === undefined ? name : `${name}{${reason}}`
    this.#counters.set(key, (this.#counters.get(key) ?? 0) + by)
  }

  snapshot(): Record<string, number> {
    return Object.fromEntries([...this.#counters].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}

export type CounterName =
  | 'connections_opened_total'
  | 'connections_closed_total'
  | 'upgrades_refused_total'
  | 'tickets_ended_total'
  | 'messages_received_total'
  | 'messages_refused_total'
  | 'late_results_total'
  | 'client_publications_total'
  | 'api_refused_total'
  | 'publications_received_total'
  | 'publications_rejected_total'
  | 'deliveries_total'
  | 'deliveries_skipped_total'
  | 'messages_dropped_total'
  | 'gaps_total'
  | 'recoveries_total'
  | 'publications_filled_total'
  | 'events_sent_total'
  | 'events_lost_total'
  | 'backend_calls_total'
  | 'backend_failures_total'

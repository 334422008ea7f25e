/** Some reasons come from outside, such as the code of an application's own error: further ones are counted as `other`. */
const MAX_COUNTERS = 1000

/** Counters of one node. Whatever is dropped, refused or closed is counted; `reason` says why. */
export class Metrics {
  readonly #counters = new Map<string, number>()
  /** Counters that are kept elsewhere, where counting has to cost nothing. */
  readonly #followed = new Map<string, () => number>()

  /** `reason` becomes part of the key: `publications_rejected_total{json}`. */
  count(name: CounterName, by = 1, reason?: string | number): void {
    const key = keyOf(name, reason)
    const known = this.#counters.get(key)
    if (known === undefined && reason !== undefined && this.#counters.size >= MAX_COUNTERS) {
      const other = `${name}{other}`
      this.#counters.set(other, (this.#counters.get(other) ?? 0) + by)
    } else this.#counters.set(key, (known ?? 0) + by)
  }

  /** From now on `read` says how much `name` has counted, and nobody counts it here. */
  follow(name: CounterName, read: () => number, reason?: string): void {
    this.#followed.set(keyOf(name, reason), read)
  }

  /** How much `name` has counted, whatever the reason. */
  total(name: CounterName): number {
    let sum = 0
    const isMeant = (key: string) => key === name || (key.startsWith(name) && key[name.length] === '{')
    for (const [key, count] of this.#counters) if (isMeant(key)) sum += count
    for (const [key, read] of this.#followed) if (isMeant(key)) sum += read()
    return sum
  }

  snapshot(): Record<string, number> {
    const followed = [...this.#followed].map(([name, read]) => [name, read()] as const).filter(([, count]) => count > 0)
    return Object.fromEntries([...this.#counters, ...followed].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}

function keyOf(name: CounterName, reason: string | number | undefined): string {
  return reason === undefined ? name : `${name}{${reason}}`
}

export type CounterName =
  | 'connections_opened_total'
  | 'connections_closed_total'
  | 'upgrades_refused_total'
  | 'requests_refused_total'
  | 'tickets_ended_total'
  | 'messages_received_total'
  | 'messages_received_bytes_total'
  | 'messages_refused_total'
  | 'late_results_total'
  | 'client_publications_total'
  | 'api_refused_total'
  | 'publications_sent_total'
  | 'publications_failed_total'
  | 'publications_received_total'
  | 'publications_received_bytes_total'
  | 'publications_rejected_total'
  | 'deliveries_total'
  | 'deliveries_skipped_total'
  | 'messages_dropped_total'
  | 'written_bytes_total'
  | 'messages_recoded_total'
  | 'publications_unwritable_total'
  | 'gaps_total'
  | 'recoveries_total'
  | 'publications_filled_total'
  | 'questions_answered_total'
  | 'questions_refused_total'
  | 'events_sent_total'
  | 'events_lost_total'
  | 'backend_calls_total'
  | 'backend_failures_total'
  | 'ingress_taken_total'
  | 'ingress_published_total'
  | 'ingress_refused_total'
  | 'ingress_failed_total'
  | 'ingress_dead_letters_total'
  | 'ingress_lost_total'

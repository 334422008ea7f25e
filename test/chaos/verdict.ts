/** What can be violated. A broken variant of the product must be caught by one of these names. */
export type Invariant =
  | 'missing'
  | 'hole'
  | 'duplicate'
  | 'order'
  | 'invented'
  | 'gap-untold'
  | 'gap-unjustified'
  | 'history'
  | 'liveness'
  | 'leak'
  | 'error'
  /** Presence: somebody is shown who is not there. */
  | 'ghost'
  /** Somebody is not shown who is there. */
  | 'absent'
  /** Somebody was told to have left who was there. */
  | 'flicker'
  /** What was told of a list does not follow from what was told before. */
  | 'roster'
  | 'blind'

export interface Violation {
  invariant: Invariant
  /** A sentence with what to look for in the logs. */
  what: string
}

/** What was looked at and how it went, for the report. */
export interface Tally {
  acknowledged: number
  /** Requests that the queues of the ingress confirmed. */
  queued: Record<string, number>
  delivered: number
  clients: number
  faults: Record<string, number>
  /** Returns by how they went: replayed, up to date, gap, away. */
  recoveries: Record<string, number>
  gaps: Record<string, number>
  /** Publications that nodes filled in by themselves from histories. */
  filled: number
  /** Milliseconds from a lost connection to the next welcome. */
  reconnects: number[]
  /** Milliseconds from the last fault until everybody was up to date. */
  settled: number | undefined
  /** Members that joined and left, as clients were told. */
  presence: { joined: number; left: number }
  /** Milliseconds from then until everybody knew who was there. */
  presenceSettled: number | undefined
}

export interface Verdict {
  seed: number
  violations: Violation[]
  tally: Tally
  folder: string
}

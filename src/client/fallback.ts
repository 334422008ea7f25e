import type { Link } from './link.ts'

/** So many WebSockets in a row got no answer: something on the way may not let them through. */
const FALLBACK_AFTER = 3
/** While a stream is open a WebSocket is tried again, ever more rarely. */
const FIRST_TRY = 60_000
const MAX_TRY = 600_000
/** Topics that are subscribed together come with one new stream. */
const REFRESH_AFTER = 100

type Timer = ReturnType<typeof setTimeout> | undefined

/** Which way the next attempt takes, and when a client on an event stream looks for a WebSocket. */
export class Fallback {
  /** The next attempt is an event stream. */
  isStream = false
  /** A WebSocket that may take the place of the open stream. */
  candidate: Link | undefined
  private isAllowed: boolean
  private tries = 0
  /** When a WebSocket is tried again. It stays while one stream follows another: who changes topics often looks as well. */
  private due: number | undefined
  private timer: Timer
  private refreshing: Timer

  constructor(isAllowed: boolean) {
    this.isAllowed = isAllowed
  }

  /** The connection ended; so many attempts in a row got no answer. */
  lost(unanswered: number): void {
    // If the stream gets no answer either, the two take turns.
    if (unanswered > 0) this.isStream = this.isAllowed && !this.isStream && unanswered >= FALLBACK_AFTER
  }

  /** A WebSocket was welcomed. */
  opened(): void {
    this.isStream = false
    this.tries = 0
    this.due = undefined
  }

  /** Calls `attempt` again and again while the stream is open. */
  look(attempt: () => void): void {
    const now = Date.now()
    // At random, so that clients that came together do not try together.
    this.due ??= now + ((1 + Math.random()) / 2) * Math.min(MAX_TRY, FIRST_TRY * 2 ** this.tries)
    const again = () => {
      this.due = undefined
      this.tries++
      this.drop()
      this.look(attempt)
      attempt()
    }
    this.timer = setTimeout(again, Math.max(0, this.due - now))
  }

  /** The topics of a stream are in its request: `open` replaces it when they have changed. */
  refresh(open: () => void): void {
    this.refreshing ??= setTimeout(open, REFRESH_AFTER)
  }

  drop(): void {
    this.candidate?.leave()
    this.candidate = undefined
  }

  /** The connection ended. */
  stop(): void {
    this.drop()
    clearTimeout(this.timer)
    clearTimeout(this.refreshing)
    this.refreshing = undefined
  }
}

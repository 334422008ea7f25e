/** The earliest reconnect, in milliseconds: what a slow client has not read yet is still on its way to it. */
const SOONEST = 500

/** Milliseconds between two reconnects: a hundred a second. */
const APART = 10

/** The latest reconnect. When more than about three thousand are closed at once, several share a time. */
const LATEST = 30_000

/** When clients that this node closed are to reconnect: those closed together come back one by one. */
export class ReconnectTimes {
  /** The time given to the last client. */
  #last = 0

  /** Milliseconds from `now` until the next client is to reconnect: the more were closed lately, the longer. */
  after(now: number): number {
    const next = Math.max(this.#last + APART, now + SOONEST)
    this.#last = next - now > LATEST ? now + SOONEST : next
    return Math.floor(this.#last - now + Math.random() * APART)
  }
}

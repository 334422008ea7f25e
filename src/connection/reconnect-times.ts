/** Nobody is asked back sooner than this many milliseconds: what a client was too slow for is still on its way to it. */
const SOONEST = 500

/** Those who are closed one after another come back this far apart: a hundred a second. */
const APART = 10

/** Nobody is asked to stay away for longer; of more than some three thousand at once, several share a turn. */
const LATEST = 30_000

/** When clients that this node closed are to come back, so that those it closed together do not come together. */
export class ReconnectTimes {
  /** When the last of them comes back. */
  #last = 0

  /** Milliseconds from `now` until the next of them is to come back: the more were closed lately, the more. */
  after(now: number): number {
    const next = Math.max(this.#last + APART, now + SOONEST)
    this.#last = next - now > LATEST ? now + SOONEST : next
    return Math.floor(this.#last - now + Math.random() * APART)
  }
}

import type { Redis } from 'ioredis'

export interface LinkEvents {
  /** Connected and authenticated. */
  up(): void
  down(error: Error | undefined): void
}

/** How often a link is probed, and how long an answer may take: a frozen Redis is noticed within the sum of both. */
const PROBE_INTERVAL = 1000
const PROBE_TIMEOUT = 1900

/**
 * One connection to Redis and the knowledge whether it lives. ioredis alone sees nothing when the other side freezes:
 * its socketTimeout is armed by commands only, and a subscriber sends none (15 s of silence were observed).
 */
export class Link {
  readonly client: Redis
  readonly #events: LinkEvents
  readonly #timer: NodeJS.Timeout
  #isUp = false
  #error: Error | undefined
  #busySince: number | undefined
  /** The socket that was given up last; until it is closed ioredis has no other. */
  #givenUp: Redis['stream'] | undefined

  constructor(client: Redis, events: LinkEvents) {
    this.client = client
    this.#events = events
    client.on('ready', () => this.#onReady())
    client.on('close', () => this.#onClose())
    client.on('error', error => {
      this.#error = error
    })
    this.#timer = setInterval(() => this.#probe(), PROBE_INTERVAL)
    this.#timer.unref()
    client.connect().catch(() => {})
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Why it is down, as far as known. */
  get lastError(): Error | undefined {
    return this.#error
  }

  #onReady(): void {
    this.#isUp = true
    this.#error = undefined
    this.#busySince = undefined
    this.#events.up()
  }

  #onClose(): void {
    this.#busySince = undefined
    this.#down()
  }

  /** Also when it was not up: a wrong password is the reason why it never is. */
  #down(): void {
    this.#isUp = false
    this.#events.down(this.#error)
  }

  #probe(): void {
    const now = performance.now()
    const { status } = this.client
    if (status !== 'ready' && status !== 'connect') {
      this.#busySince = undefined
    } else if (this.#busySince !== undefined) {
      if (now - this.#busySince >= PROBE_TIMEOUT) this.reset(new Error(`no answer for ${PROBE_TIMEOUT} ms`))
    } else {
      // In "connect" the handshake is under way, which a frozen Redis leaves without an answer as well.
      this.#busySince = now
      if (status === 'ready') this.#ping()
    }
  }

  #ping(): void {
    this.client.ping().then(
      () => {
        this.#busySince = undefined
      },
      (error: Error) => {
        // MISCONF and BUSY are answers too. Else the link is being closed, which the 'close' event tells.
        if (error.name === 'ReplyError') this.#busySince = undefined
      },
    )
  }

  /** Gives this connection up and makes another. Many calls may end together: for ioredis each would be another time. */
  reset(reason: Error): void {
    const { stream } = this.client
    if (stream && stream === this.#givenUp) return
    this.#givenUp = stream
    this.#busySince = undefined
    this.client.disconnect(true)
    this.#error = reason
    // From here on nothing can be sent: calls wait for the next connection.
    this.#down()
  }

  close(): void {
    clearInterval(this.#timer)
    this.client.disconnect()
  }
}

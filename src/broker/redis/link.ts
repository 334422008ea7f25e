import type { Redis } from 'ioredis'

export interface LinkEvents {
  /** Connected and authenticated. */
  up(): void
  down(error: Error | undefined): void
  /** Redis answered a PING of that time: what it had written before the answer has been read. */
  answered?(askedAt: number): void
  /** Whether bytes that were read wait to be dealt with: the answer may be among them. */
  isBehind?(): boolean
}

/** How often a link is looked at, and asked for an answer when none is due. */
const LOOK_INTERVAL = 1000

/**
 * A link is given up when an answer is due and so many looks in a row find that nothing has arrived. Looks are counted,
 * not milliseconds: a process that was stopped for ten seconds has looked once.
 */
const SILENT_LOOKS = 2

/** An answer that was asked for so long before something else that has arrived never comes. */
const OVERTAKEN = 1000

/**
 * So many looks without the answer, although bytes arrive all the time: what arrives is two minutes late, by which time
 * a gap serves better, or it is a trickle through something half dead.
 */
const LATE_LOOKS = 120

/**
 * One connection to Redis and the knowledge whether it lives. ioredis alone sees nothing when the other side freezes:
 * its socketTimeout is armed by commands only, and a subscriber sends none (15 s of silence were observed). An answer
 * stands behind all that was published before it, seconds of it under load: late is not dead while bytes arrive.
 */
export class Link {
  readonly client: Redis
  readonly #events: LinkEvents
  readonly #timer: NodeJS.Timeout
  #isUp = false
  #isClosed = false
  #error: Error | undefined
  /** When the answer was asked for that is due. */
  #askedAt: number | undefined
  #bytesRead = 0
  /** Since then, and those of them that saw nothing new. */
  #looks = 0
  #silentLooks = 0
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
    // After the poll phase: what a process that was away itself has not read yet is no silence of Redis.
    this.#timer = setInterval(() => setImmediate(() => this.#look()), LOOK_INTERVAL)
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
    this.#askedAt = undefined
    this.#events.up()
  }

  #onClose(): void {
    this.#askedAt = undefined
    this.#down()
  }

  /** Also when it was not up: a wrong password is the reason why it never is. */
  #down(): void {
    this.#isUp = false
    this.#events.down(this.#error)
  }

  #look(): void {
    const { status } = this.client
    // In "connect" the handshake is under way, which a frozen Redis leaves without an answer as well.
    const isOpen = status === 'ready' || status === 'connect'
    if (this.#isClosed || !isOpen) this.#askedAt = undefined
    else if (this.#askedAt === undefined) this.#ask(status === 'ready')
    else this.#judge()
  }

  #ask(isReady: boolean): void {
    this.#looks = 0
    this.#silentLooks = 0
    this.#bytesRead = this.client.stream.bytesRead
    this.#askedAt = performance.now()
    if (isReady) this.#ping(this.#askedAt)
  }

  #judge(): void {
    const { stream } = this.client
    // Nothing arrives either while this process does not read.
    const isReading = !stream.isPaused() && !this.#events.isBehind?.()
    const isSilent = isReading && stream.bytesRead === this.#bytesRead
    this.#bytesRead = stream.bytesRead
    this.#looks++
    this.#silentLooks = isSilent ? this.#silentLooks + 1 : 0
    if (this.#silentLooks < SILENT_LOOKS && this.#looks < LATE_LOOKS) return
    this.reset(new Error(`no answer for ${this.#looks * LOOK_INTERVAL} ms`))
  }

  #ping(askedAt: number): void {
    this.client.ping().then(
      () => this.#onAnswer(askedAt),
      (error: Error) => {
        // MISCONF and BUSY are answers too. Else the link is being closed, which the 'close' event tells.
        if (error.name === 'ReplyError') this.#onAnswer(askedAt)
      },
    )
  }

  #onAnswer(askedAt: number): void {
    // Else it is that of a connection which was given up since.
    if (this.#askedAt !== askedAt) return
    this.#askedAt = undefined
    this.#events.answered?.(askedAt)
  }

  /** Something has arrived here that Redis was asked for at `askedAt` over another link. */
  overtaken(askedAt: number): void {
    // An answer that was read just before is a promise, which settles only now.
    setImmediate(() => {
      if (this.#askedAt === undefined || askedAt - this.#askedAt < OVERTAKEN) return
      this.reset(new Error('no answer, though what was asked for later has come'))
    })
  }

  /** Gives this connection up and makes another. Many calls may end together: for ioredis each would be another time. */
  reset(reason: Error): void {
    const { stream } = this.client
    if (this.#isClosed || (stream && stream === this.#givenUp)) return
    this.#givenUp = stream
    this.#askedAt = undefined
    this.client.disconnect(true)
    this.#error = reason
    // From here on nothing can be sent: calls wait for the next connection.
    this.#down()
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.client.disconnect()
  }
}

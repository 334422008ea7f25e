import type { Redis } from 'ioredis'

export interface Address {
  host: string
  port: number
}

export interface LinkEvents {
  /** Connected and authenticated. */
  up(): void
  down(error: Error | undefined): void
  /** Redis answered the PING of that time, so everything that it had written before the answer has been read. */
  answered?(askedAt: number): void
  /** Whether bytes that were read have not been processed yet: the answer may be among them. */
  isBehind?(): boolean
}

/** Milliseconds between two checks of a link. A check sends a PING unless an answer is still due. */
const CHECK_INTERVAL = 1000

/**
 * A link is closed if an answer is due and this many checks in a row find that nothing has arrived. Checks are counted,
 * not milliseconds, because a process that was stopped for ten seconds has checked only once.
 */
const SILENT_CHECKS = 2

/** An answer is lost if something arrives that was requested this many milliseconds later. */
const OVERTAKEN = 1000

/**
 * A link is also closed after this many checks without the answer, even if bytes arrive all the time. Either messages
 * are two minutes late, and a gap is better by then, or something half dead lets only a trickle through.
 */
const LATE_CHECKS = 120

const NOT_READY = 'Redis answers but is not ready: it is still reading its data (LOADING)'

/**
 * One connection to Redis, and whether it is alive. ioredis alone does not notice when the other side freezes: only
 * commands start its socketTimeout, and a subscriber sends none (15 s of silence were observed). An answer comes after
 * everything that was published before it, which under load takes seconds: a link is late, not dead, while bytes
 * arrive.
 */
export class Link {
  readonly client: Redis
  readonly #events: LinkEvents
  readonly #timer: NodeJS.Timeout
  #isUp = false
  #isClosed = false
  #error: Error | undefined
  /** When the answer that is due was requested. */
  #askedAt: number | undefined
  #bytesRead = 0
  /** Checks since then, and how many of the last ones found nothing new. */
  #checks = 0
  #silentChecks = 0
  /** The socket that was abandoned last; ioredis has no other one until it is closed. */
  #abandoned: Redis['stream'] | undefined

  constructor(client: Redis, events: LinkEvents) {
    this.client = client
    this.#events = events
    client.on('ready', () => this.#onReady())
    client.on('close', () => this.#onClose())
    client.on('error', error => {
      this.#error = error
    })
    // After the poll phase: if this process was stopped itself, bytes that it has not read yet must not count as
    // silence.
    this.#timer = setInterval(() => setImmediate(() => this.#check()), CHECK_INTERVAL)
    this.#timer.unref()
    client.connect().catch(() => {})
  }

  get isUp(): boolean {
    return this.#isUp
  }

  get address(): Address {
    const { host, port } = this.client.options
    return { host: String(host), port: Number(port) }
  }

  /** Why it is down, if known. */
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

  /** Also reported when the link was not up: a wrong password keeps it from ever being up. */
  #down(): void {
    this.#isUp = false
    this.#events.down(this.#error)
  }

  #check(): void {
    const { status } = this.client
    // In the state "connect" the handshake is under way: a frozen Redis does not answer that either.
    const isOpen = status === 'ready' || status === 'connect'
    if (this.#isClosed || !isOpen) this.#askedAt = undefined
    else if (this.#askedAt === undefined) this.#ask(status === 'ready')
    else this.#judge()
  }

  #ask(isReady: boolean): void {
    this.#checks = 0
    this.#silentChecks = 0
    this.#bytesRead = this.client.stream.bytesRead
    this.#askedAt = performance.now()
    if (isReady) this.#ping(this.#askedAt)
  }

  #judge(): void {
    const { stream } = this.client
    // While this process does not read, nothing can arrive.
    const isReading = !stream.isPaused() && !this.#events.isBehind?.()
    const isSilent = isReading && stream.bytesRead === this.#bytesRead
    this.#bytesRead = stream.bytesRead
    this.#checks++
    this.#silentChecks = isSilent ? this.#silentChecks + 1 : 0
    if (this.client.status === 'connect' && !isSilent) this.#wait()
    if (this.#silentChecks < SILENT_CHECKS && this.#checks < LATE_CHECKS) return
    this.reset(new Error(`no answer for ${this.#checks * CHECK_INTERVAL} ms`))
  }

  /** Redis answers, and yet there is no end of the handshake: nobody would be told why. */
  #wait(): void {
    this.#error = new Error(NOT_READY)
    this.#events.down(this.#error)
  }

  #ping(askedAt: number): void {
    this.client.ping().then(
      () => this.#onAnswer(askedAt),
      (error: Error) => {
        // A PING is never redirected: this is the answer to another command, see isOutOfStep.
        if (error.message.startsWith('MOVED ')) this.reset(error)
        // MISCONF and BUSY are answers too. For any other error the link closes, and 'close' reports that.
        else if (error.name === 'ReplyError') this.#onAnswer(askedAt)
      },
    )
  }

  #onAnswer(askedAt: number): void {
    // Otherwise it belongs to a connection that was abandoned since.
    if (this.#askedAt !== askedAt) return
    this.#askedAt = undefined
    this.#events.answered?.(askedAt)
  }

  /** Something has arrived here that was requested at `askedAt` over another link. */
  overtaken(askedAt: number): void {
    // The promise of an answer that was read just before settles first.
    setImmediate(() => {
      if (this.#askedAt === undefined || askedAt - this.#askedAt < OVERTAKEN) return
      this.reset(new Error('no answer to a PING, although something requested later has arrived'))
    })
  }

  /** Closes this connection and opens a new one. Only once for each socket: many calls may time out together. */
  reset(reason: Error): void {
    const { stream } = this.client
    if (this.#isClosed || (stream && stream === this.#abandoned)) return
    this.#abandoned = stream
    this.#askedAt = undefined
    this.client.disconnect(true)
    this.#error = reason
    // Nothing can be sent any more: calls wait for the next connection.
    this.#down()
  }

  /** The slots of this link have another master now. */
  moveTo({ host, port }: Address): void {
    Object.assign(this.client.options, { host, port })
    this.reset(new Error(`the master of these slots is ${host}:${port} now`))
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.client.disconnect()
  }
}

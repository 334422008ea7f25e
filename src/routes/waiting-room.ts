import type { RawData, WebSocket } from 'ws'
import { readClientMessage } from '../node/client-messages.ts'
import { CLOSE_TIMEOUT } from '../node/heartbeat.ts'
import type { Hub } from '../node/hub.ts'
import { violationOf } from '../node/inbound.ts'
import type { Codec } from '../protocol/codecs/codec.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { CLOSE, encodeMessage, MAX_CLOSE_REASON_BYTES, type Ref } from '../protocol/messages.ts'
import { type Admission, type Admitted, closeCodeOf, type Visit } from './admission.ts'

/** What came before the client was known, and is handled afterwards. */
export interface Early {
  data: Buffer
  isBinary: boolean
}

/** A client that has said who it is. */
export interface Welcomed {
  admitted: Admitted
  early: readonly Early[]
  ref: Ref | undefined
}

interface Guest {
  visit: Visit
  codec: Codec | undefined
  deadline: number
  refusals: number
  isAsking: boolean
  early: Early[]
  /** Bytes of them: a stranger may leave no more here than one message has. */
  bytes: number
  /** Ping and pong frames. */
  controls: number
  enter(welcomed: Welcomed): void
}

interface WaitingRoomParts {
  hub: Hub
  admission: Pick<Admission, 'admitLater' | 'checkUser'>
  failed(error: unknown): void
}

/** A client that sends so many other messages first does not mean to say who it is. */
const MAX_REFUSALS = 10

/** A client that is about to say who it is has no use for so many ping and pong frames. */
const MAX_CONTROLS = 1000

/** Milliseconds between two looks at who has waited for too long. */
const SWEEP = 500

const FIRST = 'say first who you are: {"type":"authenticate","payload":{"ticket":"…"}}'

/**
 * Sockets of clients whose first message says who they are. They have no connection: nothing is subscribed or sent for
 * them. They count as connections of the node, and have `limits.handshake`.
 */
export class WaitingRoom {
  readonly #parts: WaitingRoomParts
  readonly #guests = new Map<WebSocket, Guest>()
  /** Sockets that were sent a close frame, and until when they may answer it. */
  readonly #leaving = new Map<WebSocket, number>()
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(parts: WaitingRoomParts) {
    this.#parts = parts
  }

  /** `enter` is called, in the same turn as its socket is let go, when the client is known. */
  wait(socket: WebSocket, visit: Visit, codec: Codec | undefined, enter: Guest['enter']): void {
    const { hub } = this.#parts
    const deadline = performance.now() + hub.options.limits.handshake
    const guest = { visit, codec, deadline, refusals: 0, isAsking: false, early: [], bytes: 0, controls: 0, enter }
    this.#guests.set(socket, guest)
    hub.unidentified++
    socket.on('message', this.#onMessage).on('error', this.#onError).on('close', this.#onClose)
    socket.on('ping', this.#onControl).on('pong', this.#onControl)
    if (this.#isClosed) return this.#dismiss(socket, CLOSE.RESTART, '')
    this.#watch()
  }

  #watch(): void {
    this.#timer ??= setInterval(() => this.#sweep(performance.now()), SWEEP)
  }

  // Shared by all sockets.
  readonly #onMessage = (() => {
    const take = (socket: WebSocket, early: Early) => this.#take(socket, early)
    return function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
      take(this, { data: data as Buffer, isBinary })
    }
  })()

  readonly #onClose = (() => {
    const forget = (socket: WebSocket) => this.#forget(socket)
    return function onClose(this: WebSocket): void {
      forget(this)
    }
  })()

  readonly #onControl = (() => {
    const take = (socket: WebSocket) => this.#takeControl(socket)
    return function onControl(this: WebSocket): void {
      take(this)
    }
  })()

  readonly #onError = (error: Error): void => this.#refused(violationOf(error))

  #refused(reason: string): void {
    this.#parts.hub.metrics.count('messages_refused_total', 1, reason)
  }

  #takeControl(socket: WebSocket): void {
    const guest = this.#guests.get(socket)
    // `ws` cuts off who sends more pings at once than it answers.
    if (!guest || (++guest.controls <= MAX_CONTROLS && socket.readyState === socket.OPEN)) return
    this.#refused('rate')
    this.#dismiss(socket, CLOSE.ABUSE, 'too many ping or pong frames')
  }

  #forget(socket: WebSocket): Guest | undefined {
    const guest = this.#guests.get(socket)
    if (guest && this.#guests.delete(socket)) this.#parts.hub.unidentified--
    this.#leaving.delete(socket)
    return guest
  }

  #take(socket: WebSocket, early: Early): void {
    const guest = this.#guests.get(socket)
    if (!guest) return
    const { limits } = this.#parts.hub.options
    if (early.data.length > limits.inbound) {
      this.#refused('too_large')
      return this.#dismiss(socket, CLOSE.TOO_BIG, `more than ${limits.inbound} bytes`)
    }
    if (guest.isAsking) {
      guest.bytes += early.data.length
      const isTooMuch = guest.early.length >= limits.pending || guest.bytes > limits.inbound
      if (!isTooMuch) return void guest.early.push(early)
      this.#refused('rate')
      return this.#dismiss(socket, CLOSE.ABUSE, 'too many messages')
    }
    const message = readClientMessage(guest.codec, early.data, early.isBinary)
    if ('type' in message && message.type === 'authenticate') {
      void this.#identify(socket, guest, message)
    } else this.#refuse(socket, guest, 'bytes' in message ? undefined : message.ref)
  }

  #refuse(socket: WebSocket, guest: Guest, ref: Ref | undefined): void {
    const error = new errors.UNAUTHENTICATED(FIRST)
    this.#refused(error.code)
    const payload = { code: error.code, message: error.message }
    socket.send(guest.codec?.encodeMessage({ type: 'error', payload, ref }) ?? encodeMessage('error', payload, ref))
    if (++guest.refusals >= MAX_REFUSALS) this.#turnAway(socket, error)
  }

  async #identify(
    socket: WebSocket,
    guest: Guest,
    { payload, ref }: { payload: unknown; ref: Ref | undefined },
  ): Promise<void> {
    guest.isAsking = true
    const { admission, hub } = this.#parts
    let admitted: Admitted
    try {
      admitted = await admission.admitLater(payload, guest.visit)
      if (hub.isDraining) throw new errors.DRAINING()
      // Meanwhile others of the same user may have come.
      admission.checkUser(admitted.identity)
    } catch (error) {
      const refusal = this.#presentable(error)
      if (this.#guests.has(socket)) this.#turnAway(socket, refusal)
      return
    }
    // It has closed, or its time was over.
    if (!this.#guests.has(socket)) return
    this.#letGo(socket)
    guest.enter({ admitted, early: guest.early, ref })
  }

  #presentable(error: unknown): PushError {
    if (isPushError(error)) return error
    this.#parts.failed(error)
    return new errors.INTERNAL('the message could not be checked')
  }

  /** From here on somebody else listens to the socket. */
  #letGo(socket: WebSocket): void {
    this.#forget(socket)
    socket.off('message', this.#onMessage).off('error', this.#onError).off('close', this.#onClose)
    socket.off('ping', this.#onControl).off('pong', this.#onControl)
  }

  #turnAway(socket: WebSocket, refusal: PushError): void {
    this.#parts.hub.metrics.count('upgrades_refused_total', 1, refusal.code)
    this.#dismiss(socket, closeCodeOf(refusal), closeReason(refusal.message))
  }

  #dismiss(socket: WebSocket, code: number, reason: string): void {
    this.#forget(socket)
    this.#leaving.set(socket, performance.now() + CLOSE_TIMEOUT)
    this.#watch()
    socket.close(code, reason)
  }

  #sweep(now: number): void {
    const late = [...this.#guests].filter(([, { deadline }]) => deadline <= now)
    for (const [socket] of late) {
      this.#turnAway(socket, new errors.UNAUTHENTICATED('no authenticate message came in time'))
    }
    for (const [socket, deadline] of this.#leaving) {
      if (deadline > now) continue
      this.#leaving.delete(socket)
      socket.terminate()
    }
    if (this.#guests.size + this.#leaving.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** The node closes: other nodes take these clients. */
  close(): void {
    this.#isClosed = true
    for (const socket of [...this.#guests.keys()]) this.#dismiss(socket, CLOSE.RESTART, '')
  }
}

/** As much of `text` as fits into a close frame, without half a character at the end. */
export function closeReason(text: string): string {
  return Buffer.from(text)
    .subarray(0, MAX_CLOSE_REASON_BYTES)
    .toString()
    .replace(/\ufffd$/, '')
}

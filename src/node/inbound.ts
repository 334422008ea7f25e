import type { Connection } from '../connection/connection.ts'
import { topicsOf } from '../connection/registry.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, limitError, type PushError, reasonOf } from '../protocol/errors.ts'
import { type BadMessage, CLOSE, type ClientMessage, encodeReply, type Ref } from '../protocol/messages.ts'
import { rawValue } from '../protocol/raw-json.ts'
import type { Publisher } from '../publish/publish.ts'
import { compilePayloadCheck, type PayloadCheck } from '../publish/schemas.ts'
import { type Asker, Changes } from './changes.ts'
import { readClientMessage } from './client-messages.ts'
import type { MessageTaker } from './events/events.ts'
import { fieldsOf } from './fields.ts'
import type { Hub } from './hub.ts'
import { Turn, type TurnRules } from './turn.ts'
import type { Workers } from './workers.ts'

const NOTHING = Promise.resolve()

/** The state of a client that sends messages. Most never send any and have none. */
class Conversation implements Asker {
  readonly connection: Connection
  tokens: number
  refilled = performance.now()
  badInARow = 0
  pending = 0
  lastChange: Promise<unknown> = NOTHING
  /** Messages that arrived before the welcome was sent. */
  early: Inbound[] | undefined

  constructor(connection: Connection, tokens: number) {
    this.connection = connection
    this.tokens = tokens
  }
}

type Inbound = { data: Buffer; isBinary: boolean }

/** A client that sends this many unusable messages in a row does not speak the protocol. */
const MAX_BAD_IN_A_ROW = 10

/** A ping or an ack hardly counts against the rate of messages, but a flood of them does. */
const CHEAP_COST = 0.1

/** Logged where they arise: the client may send the message again later. */
const FOR_CLIENTS = new Set(['PUSH_ERR_BACKEND_AWAY', 'PUSH_ERR_BACKEND_UNCONFIRMED', 'PUSH_ERR_BUSY'])

/** What `ws` closes with 1009: more than a message may have, and more than a number can say. */
const TOO_LARGE = new Set(['WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH'])

/** Why `ws` ended a connection: what it was sent is larger than a message may be, or breaks RFC 6455. */
export function violationOf(error: Error): 'too_large' | 'protocol' {
  return TOO_LARGE.has((error as { code?: string }).code ?? '') ? 'too_large' : 'protocol'
}

/** What the dispatcher reports, and who takes what it does not handle. */
export interface InboundEvents {
  failed(error: unknown): void
  taker: MessageTaker | undefined
  workers: Workers | undefined
}

/** Handles the messages of clients. */
export class Dispatcher {
  readonly #hub: Hub
  readonly #options: Options
  readonly #checks = new Map<string, PayloadCheck>()
  readonly #changes: Changes
  readonly #conversations = new WeakMap<Connection, Conversation>()
  readonly #onError: (error: unknown) => void
  readonly #taker: MessageTaker | undefined
  readonly #workers: Workers | undefined
  #receivedBytes = 0
  readonly #turns: TurnRules

  /** `taker` gets the messages for which there is no handler. */
  constructor(hub: Hub, options: Options, publisher: Publisher, { failed, taker, workers }: InboundEvents) {
    this.#hub = hub
    this.#options = options
    this.#onError = failed
    this.#taker = taker
    this.#workers = workers
    hub.metrics.follow('messages_received_bytes_total', () => this.#receivedBytes)
    this.#turns = { milliseconds: options.limits.handlerTime, late: error => this.#late(error) }
    const refused = (connection: Connection, error: PushError, ref: Ref | undefined) =>
      this.#refuse(connection, error, ref)
    this.#changes = new Changes(hub, options, publisher, { failed, refused })
    for (const [type, { schema }] of Object.entries(options.handlers)) {
      this.#checks.set(type, compilePayloadCheck(`handlers["${type}"].schema`, schema))
    }
  }

  /** Handles one message; never throws. Messages are kept until `release`, since `welcome` comes before any answer. */
  receive(connection: Connection, data: Buffer, isBinary: boolean): void {
    const { metrics } = this.#hub
    if (connection.isClosing) return metrics.count('messages_refused_total', 1, 'closing')
    connection.idle = 0
    metrics.count('messages_received_total')
    this.#receivedBytes += data.length
    if (data.length > this.#options.limits.inbound) {
      metrics.count('messages_refused_total', 1, 'too_large')
      return connection.close(CLOSE.TOO_BIG, `more than ${this.#options.limits.inbound} bytes`)
    }
    const conversation = this.#conversationOf(connection)
    if (!connection.isOpening) return this.#take(conversation, { data, isBinary })
    conversation.early ??= []
    if (conversation.early.length >= this.#options.limits.pending)
      return this.#endFlood(connection, 'too many messages')
    conversation.early.push({ data, isBinary })
  }

  /** `ws` closes the connection after it. The code that is counted then is that of the client, if it sends one. */
  receiveBroken(error: Error): void {
    this.#hub.metrics.count('messages_refused_total', 1, violationOf(error))
  }

  /** A ping frame, or a pong frame, which costs the server as little and as much as a message that says so. */
  receiveControl(connection: Connection, isOpen: boolean): void {
    if (connection.isClosing) return
    // `ws` cuts off who sends more pings at once than it answers.
    if (!isOpen) return this.#endFlood(connection)
    // The pong that the heartbeat asked for, and a ping now and then, cost nothing: few connections send anything else.
    if (connection.idle > 0) connection.idle = 0
    else if (!this.#pay(this.#conversationOf(connection), CHEAP_COST)) this.#endFlood(connection)
  }

  #endFlood(connection: Connection, reason = `more than ${this.#options.limits.messages} messages a second`): void {
    this.#hub.metrics.count('messages_refused_total', 1, 'rate')
    this.#hub.delivery.limitNotes.add(topicsOf(connection), 'rate')
    connection.close(CLOSE.ABUSE, reason)
  }

  release(connection: Connection): void {
    const conversation = this.#conversations.get(connection)
    const early = conversation?.early ?? []
    if (conversation) conversation.early = undefined
    for (const inbound of early) this.#take(conversation!, inbound)
  }

  #conversationOf(connection: Connection): Conversation {
    let conversation = this.#conversations.get(connection)
    if (!conversation) {
      conversation = new Conversation(connection, this.#options.limits.messages * 2)
      this.#conversations.set(connection, conversation)
    }
    return conversation
  }

  #take(conversation: Conversation, inbound: Inbound): void {
    if (conversation.connection.isClosing) return this.#hub.metrics.count('messages_refused_total', 1, 'closing')
    try {
      this.#handleInbound(conversation, inbound)
    } catch (error) {
      this.#onError(error)
      this.#refuseBad(conversation, { problem: 'the message cannot be handled', ref: undefined })
    }
  }

  #handleInbound(conversation: Conversation, { data, isBinary }: Inbound): void {
    const { connection } = conversation
    const message = readClientMessage(connection.codec, data, isBinary)
    // Neither may cost a connection: a ping is a sign of life, and the server itself asks for acks.
    const isCheap = 'type' in message && (message.type === 'ping' || message.type === 'ack')
    if (!this.#pay(conversation, isCheap ? CHEAP_COST : 1)) return this.#endFlood(connection)
    if ('bytes' in message) return this.#takeBinary(conversation, message.bytes)
    if ('problem' in message) return this.#refuseBad(conversation, message)
    conversation.badInARow = 0
    if (message.type === 'ping') this.#pong(conversation, message)
    else if (message.type === 'ack') this.#acknowledge(connection, message)
    else this.#run(conversation, message.ref, turn => this.#obey(conversation, message, data, turn))
  }

  #pong(conversation: Conversation, { payload, ref }: ClientMessage): void {
    try {
      conversation.connection.reply('pong', payload ?? {}, ref)
    } catch {
      // JSON.parse accepts deeper nesting than JSON.stringify.
      this.#refuseBad(conversation, { problem: 'the payload cannot be written as JSON', ref })
    }
  }

  #pay(conversation: Conversation, cost: number): boolean {
    const { messages } = this.#options.limits
    const now = performance.now()
    const refill = ((now - conversation.refilled) / 1000) * messages
    conversation.tokens = Math.min(messages * 2, conversation.tokens + refill) - cost
    conversation.refilled = now
    return conversation.tokens >= 0
  }

  #takeBinary(conversation: Conversation, data: Buffer): void {
    const { onBinary } = this.#options.callbacks
    this.#run(conversation, undefined, () => {
      if (!onBinary) throw new errors.NO_BINARY()
      return onBinary(data, conversation.connection)
    })
  }

  #refuseBad(conversation: Conversation, { problem, ref }: BadMessage): void {
    const { connection } = conversation
    this.#refuse(connection, new errors.BAD_MESSAGE(problem), ref)
    if (++conversation.badInARow >= MAX_BAD_IN_A_ROW) {
      connection.close(CLOSE.BAD_MESSAGE, `${MAX_BAD_IN_A_ROW} unusable messages in a row`)
    }
  }

  #refuse(connection: Connection, error: PushError, ref: Ref | undefined): void {
    this.#hub.metrics.count('messages_refused_total', 1, reasonOf(error))
    connection.reply('error', { code: error.code, message: error.message }, ref)
  }

  /** Starts `task` at once; limits how many tasks of one connection run at the same time, and for how long. */
  async #run(conversation: Conversation, ref: Ref | undefined, task: (turn: Turn) => unknown): Promise<void> {
    const { connection } = conversation
    const { pending } = this.#options.limits
    if (conversation.pending >= pending) {
      return this.#refuse(
        connection,
        limitError('pending', `${pending} messages are still being handled (limits.pending)`),
        ref,
      )
    }
    conversation.pending++
    const turn = new Turn()
    try {
      await turn.run(task, this.#turns)
    } catch (error) {
      this.#refuse(connection, turn.isOver ? (error as PushError) : this.#presentable(error), ref)
    } finally {
      conversation.pending--
    }
  }

  /** Too late for the client; the operator still gets to know what failed. */
  #late(error: unknown): void {
    this.#hub.metrics.count('late_results_total')
    if (error !== undefined) this.#presentable(error)
  }

  /** The client sees errors that the application throws with a 4xx status; any other is logged and hidden from it. */
  #presentable(error: unknown): PushError {
    // Anything can be thrown, even undefined.
    const { statusCode, code } = (error ?? {}) as Partial<PushError>
    if (isPushError(error) && (error.statusCode < 500 || FOR_CLIENTS.has(error.code))) return error
    if (error instanceof Error && typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
      return Object.assign(new Error(error.message), { code: String(code ?? 'PUSH_ERR_HANDLER'), statusCode })
    }
    this.#onError(error)
    return new errors.HANDLER()
  }

  #obey(conversation: Conversation, message: ClientMessage, data: Buffer, turn: Turn): unknown {
    if (this.#changes.takes(message.type)) return this.#changes.take(conversation, message, turn)
    const { handlers } = this.#options
    if (this.#taker?.takes(message.type) && !Object.hasOwn(handlers, message.type)) {
      return this.#pass(conversation.connection, message, data, turn)
    }
    return this.#handle(conversation.connection, message, turn)
  }

  #acknowledge(connection: Connection, { payload, ref }: ClientMessage): void {
    try {
      const { token } = fieldsOf(payload, ['token'])
      if (typeof token !== 'string') throw new errors.BAD_MESSAGE('payload.token is not a string')
      this.#hub.acknowledge(connection, token)
    } catch (error) {
      this.#refuse(connection, this.#presentable(error), ref)
    }
  }

  /** To a backend, with the payload as the client wrote it; its reply goes back in the same way. */
  async #pass(connection: Connection, message: ClientMessage, data: Buffer, turn: Turn): Promise<void> {
    const { type, ref } = message
    const written = connection.codec ? JSON.stringify(message.payload) : rawValue(data.toString(), 'payload')
    const payload = written ?? '{}'
    const answer = await this.#taker!.take(connection, { type, payload, isAsked: ref !== undefined })
    if (ref !== undefined && !turn.isOver) connection.tell(encodeReply(answer, ref))
  }

  async #handle(connection: Connection, { type, payload, ref }: ClientMessage, turn: Turn): Promise<void> {
    const entry = Object.hasOwn(this.#options.handlers, type) ? this.#options.handlers[type] : undefined
    if (!entry) throw new errors.UNKNOWN_TYPE(type)
    const value = payload === undefined ? {} : payload
    const mismatch = this.#checks.get(type)?.(value)
    if (mismatch) throw new errors.SCHEMA(mismatch)
    const { id, user } = connection
    const answer =
      entry.worker !== undefined
        ? await this.#workers!.run(entry.worker, { payload: value, connection: { id, user } }, turn)
        : await entry.handler(value as never, connection)
    if (ref !== undefined && !turn.isOver) connection.reply('reply', answer, ref)
  }
}

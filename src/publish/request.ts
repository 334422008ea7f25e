import { type Static, Type } from 'typebox'
import type { HistoryRule } from '../broker/broker.ts'
import { exceptProblem, fromProblem } from '../protocol/envelope.ts'
import { errors } from '../protocol/errors.ts'
import { type From, isReservedType, typeProblem } from '../protocol/messages.ts'
import { HistoryRuleSchema, historyRuleProblem } from './history-rules.ts'

/**
 * Declare the messages of an application once, and `publish` is checked against it:
 * `declare module 'fastify-push-bridge' { interface Publications { 'order.created': { id: string } } }`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: open on purpose, applications add to it by declaration merging
export interface Publications {}
export type PublishedType = keyof Publications extends never ? string : keyof Publications & string
type PayloadOf<T> = T extends keyof Publications ? Publications[T] : unknown

/** Options of one publication. `POST /push` has the same keys with the same meaning. */
export interface PublishOptions {
  /** The user for whom it is published: clients get it with the message. */
  from?: From | undefined
  /** The publisher's own number, 0 to 2^53 - 1. Clients get it as information. */
  seq?: number | undefined
  /** Topics of connections or users to skip, at most 100. */
  except?: string | readonly string[] | undefined
  /** Wait until every node that receives it has reported to how many connections it was delivered. */
  receipt?: boolean | undefined
  /** Ask clients to acknowledge; the result counts those that did in time. Implies `receipt`. */
  ack?: boolean | undefined
  /** Tell what each node did when, as `trace` of the result. Implies `receipt`. */
  trace?: boolean | undefined
  /**
   * Record the publication: the newest `size` entries of the topic are kept, for `ttl` seconds. Default: the rule for
   * the topic in the option `history`, if there is one.
   */
  history?: HistoryRule | undefined
  /** 1 to 200 bytes: a repeat with the same key is recognised and not published again. Only for recorded topics. */
  idempotencyKey?: string | undefined
}

export type PublishedMessage<T extends PublishedType = PublishedType> = PublishOptions & {
  type: T
  payload?: PayloadOf<T>
}

export type PublishRequest = PublishOptions & { to: string | readonly string[]; type: string; payload?: unknown }

export const MAX_BATCH = 1000

const MAX_KEY_BYTES = 200

/** The body of `POST /push`, or each item of it when it is a batch. */
export const PublishRequestSchema = Type.Object(
  {
    to: Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1, maxItems: MAX_BATCH })], {
      description: 'channel:NAME, user:ID, connection:ID or all; or a list of them',
    }),
    type: Type.String({ description: '1 to 128 of A-Z a-z 0-9 _ . : / -, no reserved word' }),
    payload: Type.Optional(Type.Unknown({ description: 'any JSON value, {} when left out' })),
    from: Type.Optional(
      Type.Object({ user: Type.Union([Type.String(), Type.Null()]) }, { additionalProperties: false }),
    ),
    seq: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    except: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { maxItems: 100 })])),
    receipt: Type.Optional(Type.Boolean()),
    ack: Type.Optional(Type.Boolean()),
    trace: Type.Optional(Type.Boolean()),
    history: Type.Optional(HistoryRuleSchema),
    idempotencyKey: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
  },
  { additionalProperties: false },
)

export const requestKeys = Object.keys(PublishRequestSchema.properties)
export const messageKeys = requestKeys.filter(key => key !== 'to')

type Fields = Omit<Static<typeof PublishRequestSchema>, 'to'>

/** The checks of one publication that need neither its topic nor its schema. Throws a PushError. */
export function checkFields(message: Record<string, unknown>): Fields {
  const badType = typeProblem(message.type)
  if (badType) throw new errors.TYPE(badType)
  if (isReservedType(message.type as string)) throw new errors.RESERVED_TYPE(message.type as string)
  const { seq, history, idempotencyKey } = message
  if (seq !== undefined && !(Number.isSafeInteger(seq) && (seq as number) >= 0)) {
    throw new errors.FIELD('seq is not an integer from 0 to 2^53 - 1')
  }
  const badFlag = ['receipt', 'ack', 'trace'].find(
    key => message[key] !== undefined && typeof message[key] !== 'boolean',
  )
  if (badFlag) throw new errors.FIELD(`${badFlag} is neither true nor false`)
  const badTopics = exceptProblem(message.except) ?? fromProblem(message.from)
  if (badTopics) throw new errors.FIELD(badTopics)
  const badHistory = history === undefined ? undefined : historyRuleProblem(history)
  if (badHistory) throw new errors.FIELD(`history ${badHistory}`)
  if (idempotencyKey !== undefined && !isKey(idempotencyKey)) {
    throw new errors.FIELD(`idempotencyKey is not a string of 1 to ${MAX_KEY_BYTES} bytes`)
  }
  return message as Fields
}

function isKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= MAX_KEY_BYTES
}

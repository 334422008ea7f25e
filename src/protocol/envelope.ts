import { isUtf8 } from 'node:buffer'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { stringify } from './binary.ts'
import { closeProblem, type From, isReservedType, typeProblem } from './messages.ts'
import { isPresenceDelta, looksLikeDelta, MAX_DELTA_BYTES, type PresenceDelta } from './presence-delta.ts'
import { rawValue } from './raw-json.ts'
import { isTopic, nameProblem, type Topic, topicKind, topicProblem } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** The newest envelope version that this code reads. Newer ones are rejected: nobody here knows what they mean. */
export const ENVELOPE_VERSION = 1

const MAX_EXCEPT = 100

/** Idempotency keys that begin with this are those of clients: they are remembered for ten minutes and not for the TTL. */
export const CLIENT_KEY = 'client:'

const shared = {
  v: Type.Optional(Type.Integer({ minimum: 1, description: 'version of the envelope, 1 when left out' })),
  ext: Type.Optional(Type.Object({}, { description: 'additions of later versions; ignored' })),
  receipt: Type.Optional(
    Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$', description: 'token: each node reports what it did' }),
  ),
}

/** What a publisher writes to Redis: `{"type":"notice","payload":{…}}`. */
export const EnvelopeSchema = Type.Object({
  ...shared,
  type: Type.String(),
  payload: Type.Optional(Type.Unknown()),
  from: Type.Optional(
    Type.Object(
      { user: Type.Union([Type.String(), Type.Null()]) },
      { additionalProperties: false, description: 'who published it: clients get it' },
    ),
  ),
  seq: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  ack: Type.Optional(Type.Boolean({ description: 'ask clients to acknowledge; needs a receipt' })),
  except: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String(), { maxItems: MAX_EXCEPT })], {
      description: 'topics of connections or users to skip',
    }),
  ),
})

/** What a node writes to control the connections of a topic on every node. */
export const ControlSchema = Type.Object({
  ...shared,
  control: Type.Union([Type.Literal('close'), Type.Literal('subscribe'), Type.Literal('unsubscribe')]),
  code: Type.Optional(Type.Integer()),
  reason: Type.Optional(Type.String()),
  topic: Type.Optional(Type.String()),
})

const envelopeKeys = Object.keys(EnvelopeSchema.properties)
const controlKeys = Object.keys(ControlSchema.properties)
const envelopeCheck = Compile(EnvelopeSchema)
const controlCheck = Compile(ControlSchema)

export type RejectReason =
  | 'classic'
  | 'too_large'
  | 'encoding'
  | 'json'
  | 'shape'
  | 'version'
  | 'unknown_key'
  | 'type'
  | 'reserved_type'
  | 'field'
  | 'schema'

/** Why an envelope cannot be used. `receipt` is its token: a publisher who waits for a receipt gets an answer. */
export interface Rejection {
  reason: RejectReason
  message: string
  receipt?: string | undefined
}

export interface Publication {
  kind: 'publication'
  type: string
  /** JSON text exactly as the publisher wrote it; undefined when it wrote none. */
  payload: string | undefined
  /** The parsed payload, for the schemas. */
  value: unknown
  from: From | undefined
  seq: number | undefined
  except: readonly Topic[]
  /** Clients are asked to acknowledge; the receipt counts those that did. */
  ack: boolean
  receipt: string | undefined
  /** What it carries besides the message; clients do not get it. */
  ext?: object
}

/** What connections are told to do. */
export type Command =
  | { kind: 'close'; code: number; reason: string }
  | { kind: 'subscribe' | 'unsubscribe'; topic: Topic }

export type Control = Command & { receipt: string | undefined }

/** Who is on the topic has changed. Brokers write it. */
export interface Presence {
  kind: 'presence'
  delta: PresenceDelta
  receipt: undefined
}

export type Decoded = Publication | Control | Presence | ({ kind: 'rejected' } & Rejection)

/** Turns an envelope in MessagePack into JSON text. Throws an Error that says what is wrong with it. */
export type EnvelopeReader = (bytes: Uint8Array) => string

/** Whether an envelope that begins with this byte is a map in MessagePack. No JSON and no line of a history does. */
export function isMsgpack(first: number | undefined): boolean {
  return first !== undefined && first >= 0x80 && (first <= 0x8f || first === 0xde || first === 0xdf)
}

const NOT_READ =
  'the envelope is MessagePack, which this node does not read: write JSON, or set codecs: ["json", "msgpack"] on every node'

/**
 * Reads an envelope that any program may have written to Redis. Never throws. `readMsgpack`: undefined if it has to be JSON.
 */
export function decodeEnvelope(bytes: Uint8Array, maxBytes: number, readMsgpack?: EnvelopeReader): Decoded {
  if (bytes.length > maxBytes && !(bytes.length <= MAX_DELTA_BYTES && looksLikeDelta(bytes))) {
    return rejected('too_large', `the envelope has ${bytes.length} bytes; limits.publication allows ${maxBytes}`)
  }
  if (isMsgpack(bytes[0])) return decodeMsgpack(bytes, maxBytes, readMsgpack)
  if (!isUtf8(bytes)) {
    return rejected('encoding', 'the envelope is not UTF-8 (in PHP: json_encode with JSON_INVALID_UTF8_SUBSTITUTE)')
  }
  const text = (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes)).toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return rejected('json', jsonProblem(text))
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return rejected('shape', 'the envelope is not a JSON object such as {"type":"notice","payload":{}}')
  }
  const isControl = 'control' in value
  if (isControl && (value as { control: unknown }).control === 'presence') {
    if (isPresenceDelta(value)) return { kind: 'presence', delta: value, receipt: undefined }
    return rejected('field', 'control is presence, which brokers write, and it has another form')
  }
  const problem =
    formProblem(value, isControl ? controlKeys : envelopeKeys) ??
    (isControl ? controlProblem(value) : publicationProblem(value))
  if (problem) return { ...problem, receipt: receiptOf(value) }
  return isControl ? toControl(value as Static<typeof ControlSchema>) : toPublication(value as never, text)
}

function decodeMsgpack(bytes: Uint8Array, maxBytes: number, read: EnvelopeReader | undefined): Decoded {
  if (!read) return rejected('encoding', NOT_READ)
  try {
    return decodeEnvelope(Buffer.from(read(bytes)), maxBytes)
  } catch (error) {
    return rejected('encoding', `the envelope is MessagePack that cannot be used: ${(error as Error).message}`)
  }
}

function rejected(reason: RejectReason, message: string): { kind: 'rejected' } & Rejection {
  return { kind: 'rejected', reason, message }
}

function jsonProblem(text: string): string {
  if (text === '') return 'the envelope is empty'
  if (text.startsWith('\ufeff')) return 'the envelope begins with a byte order mark: write UTF-8 without BOM'
  if (/^\s*[{[]/.test(text)) return 'the envelope is broken JSON'
  return 'the envelope is not JSON: write an object such as {"type":"notice","payload":{}}'
}

/** What is wrong with the form that publications and commands share. */
function formProblem(value: { v?: unknown }, known: readonly string[]) {
  const unknown = unknownKey(value, known, 'x-')
  if (unknown) return rejected('unknown_key', unknown)
  const { v } = value
  if (typeof v !== 'number' || v <= ENVELOPE_VERSION) return undefined
  const problem = `the envelope is of version ${v}; this node reads up to ${ENVELOPE_VERSION}: update the node first`
  return rejected('version', problem)
}

function publicationProblem(value: object) {
  const { v, type, from, seq, except, receipt, ack, ext } = value as Record<string, unknown>
  const badType = typeProblem(type)
  if (badType) return rejected('type', badType)
  if (isReservedType(type as string)) {
    return rejected('reserved_type', `type "${type}" is reserved for the protocol: choose another`)
  }
  // Most have a type and a payload and nothing else: they need no check against the schema.
  const isPlain = v === undefined && seq === undefined && receipt === undefined && ack === undefined
  if (isPlain && except === undefined && ext === undefined && from === undefined) return undefined
  const badTopics = exceptProblem(except) ?? fromProblem(from)
  if (badTopics) return rejected('field', badTopics)
  if (ack === true && receipt === undefined) return rejected('field', 'ack needs a receipt: a token for the answers')
  return envelopeCheck.Check(value) ? undefined : rejected('field', fieldProblem(envelopeCheck.Errors(value)))
}

function controlProblem(value: object) {
  const { control: kind } = value as Record<string, unknown>
  if (!['close', 'subscribe', 'unsubscribe'].includes(kind as string)) {
    return rejected('field', 'control is none of close, subscribe, unsubscribe')
  }
  if (!controlCheck.Check(value)) return rejected('field', fieldProblem(controlCheck.Errors(value)))
  const control = value as Static<typeof ControlSchema>
  const problem =
    control.control === 'close'
      ? closeProblem(control.code ?? 1000, control.reason ?? '')
      : joinProblem(control.topic) && `topic: ${joinProblem(control.topic)}`
  return problem ? rejected('field', problem) : undefined
}

function fieldProblem(found: readonly { instancePath: string; message: string }[]): string {
  const first = found[0]
  const path = first?.instancePath.slice(1).replaceAll('/', '.')
  return `${path || 'the envelope'} ${first?.message ?? 'is not valid'}`
}

/** Why the server cannot subscribe a connection to `topic`; undefined when it can. */
export function joinProblem(topic: unknown): string | undefined {
  const problem = topicProblem(topic)
  if (problem) return problem
  return /^(channel|user):/.test(topic as string)
    ? undefined
    : `${topic} cannot be joined: name channel:NAME or user:ID`
}

/** Why a list of topics to skip cannot be used; undefined when it can. */
export function exceptProblem(except: unknown): string | undefined {
  if (except === undefined) return undefined
  const topics = Array.isArray(except) ? except : [except]
  if (topics.length > MAX_EXCEPT) return `except names ${topics.length} topics; at most ${MAX_EXCEPT} can be skipped`
  for (const topic of topics) {
    const problem = topicProblem(topic)
    if (problem) return `except: ${problem}`
    if (!/^(user|connection):/.test(topic))
      return `except: ${JSON.stringify(topic)} is neither user:ID nor connection:ID`
  }
  return undefined
}

/** Why `from` cannot say who published; undefined when it can. */
export function fromProblem(from: unknown): string | undefined {
  if (from === undefined) return undefined
  const isObject = typeof from === 'object' && from !== null && Object.keys(from).join() === 'user'
  const user = isObject ? (from as { user: unknown }).user : undefined
  if (user === null) return undefined
  if (typeof user !== 'string') return 'from is neither {"user":"42"} nor {"user":null}'
  const problem = nameProblem(user)
  return problem && `from.user ${problem}`
}

function toPublication(value: Static<typeof EnvelopeSchema>, text: string): Publication {
  return {
    kind: 'publication',
    type: value.type,
    payload: value.payload === undefined ? undefined : rawValue(text, 'payload'),
    value: value.payload,
    from: value.from,
    seq: value.seq,
    except: listOf(value.except) as readonly Topic[],
    ack: value.ack ?? false,
    receipt: value.receipt,
    ...(value.ext && { ext: value.ext }),
  }
}

function toControl(value: Static<typeof ControlSchema>): Control {
  const { receipt } = value
  return value.control === 'close'
    ? { kind: 'close', code: value.code ?? 1000, reason: value.reason ?? '', receipt }
    : { kind: value.control, topic: value.topic as Topic, receipt }
}

function receiptOf(value: object): string | undefined {
  const { receipt } = value as { receipt?: unknown }
  return typeof receipt === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(receipt) ? receipt : undefined
}

const NONE: readonly string[] = []

function listOf(except: string | readonly string[] | undefined): readonly string[] {
  return except === undefined ? NONE : typeof except === 'string' ? [except] : except
}

/** The members of an envelope before it becomes text. */
export interface EnvelopeParts {
  type: string
  payload?: unknown
  from?: From | undefined
  seq?: number | undefined
  except?: string | readonly string[] | undefined
  receipt?: string | undefined
  ack?: boolean | undefined
  ext?: object | undefined
}

/**
 * The JSON text for the broker, with bytes in the form `{"$binary":"…"}`. Throws what JSON.stringify throws, for a cycle or a
 * BigInt.
 */
export function encodeEnvelope({ type, payload, from, seq, except, receipt, ack, ext }: EnvelopeParts): string {
  return stringify({ type, payload, from, seq, except, receipt, ack, ext })!
}

export function encodeControl({ kind, ...fields }: Control): string {
  return JSON.stringify({ control: kind, ...fields })
}

/** Only users and connections can be controlled: one slip must not close a whole channel or everybody. */
export function isTarget(value: unknown): value is Topic {
  return isTopic(value) && (topicKind(value) === 'user' || topicKind(value) === 'connection')
}

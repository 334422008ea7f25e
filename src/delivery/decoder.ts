import type { Incoming } from '../broker/broker.ts'
import { type Extended, encodeExtended, encodeFrame, type Frames } from '../connection/frame.ts'
import {
  type Decoded,
  decodeEnvelope,
  type EnvelopeReader,
  isMsgpack,
  isTarget,
  type Publication,
} from '../protocol/envelope.ts'
import { encodeOrigin, encodePublication, needsNoEscape } from '../protocol/messages.ts'
import { PlainEnvelope } from '../protocol/plain-envelope.ts'
import { Slice } from '../protocol/slice.ts'
import type { Topic } from '../protocol/topic.ts'
import type { SchemaTable } from '../publish/schemas.ts'

/** A publication with a type, a payload and perhaps a publisher, and nothing else that a node has to know. */
const PLAIN = { kind: 'plain' } as const

export type Plain = typeof PLAIN

/** What a frame is made of. */
type Framed = Pick<Incoming, 'topic' | 'envelope' | 'position'>

/** Turns envelopes, which any program may have written, into frames: live publications and histories alike. */
export class Decoder {
  readonly #schemas: SchemaTable
  readonly #maxBytes: number
  readonly #failed: (error: unknown) => void
  readonly #readMsgpack: EnvelopeReader | undefined
  readonly #plain = new PlainEnvelope()

  /** `readMsgpack`: undefined if envelopes have to be JSON. */
  constructor(
    schemas: SchemaTable,
    maxBytes: number,
    failed: (error: unknown) => void,
    readMsgpack?: EnvelopeReader | undefined,
  ) {
    this.#schemas = schemas
    this.#maxBytes = maxBytes
    this.#failed = failed
    this.#readMsgpack = readMsgpack
  }

  /**
   * The same with its envelope in JSON: nothing behind this has to know of another form. An envelope that cannot be read
   * stays as it is, and `decode` says why.
   */
  inJson<T extends { envelope: Slice }>(incoming: T): T {
    const { envelope } = incoming
    if (!this.#readMsgpack || !isMsgpack(envelope.memory[envelope.start])) return incoming
    if (envelope.length > this.#maxBytes) return incoming
    try {
      return { ...incoming, envelope: new Slice(Buffer.from(this.#readMsgpack(envelope.view()))) }
    } catch {
      return incoming
    }
  }

  /** Never throws: an error must not interrupt the broker, which calls this. */
  decode(topic: Topic, envelope: Slice): Decoded | Plain {
    try {
      const isPlain = envelope.length <= this.#maxBytes && this.#plain.matches(envelope)
      if (isPlain && (this.#schemas.isEmpty || !this.#schemas.has(this.#plain.type))) return PLAIN
      const decoded = this.#decode(topic, envelope)
      return isPlain && decoded.kind === 'publication' ? PLAIN : decoded
    } catch (error) {
      this.#failed(error)
      return { kind: 'rejected', reason: 'schema', message: 'the envelope could not be checked' }
    }
  }

  /** The type of the plain envelope that was decoded last. */
  get plainType(): string {
    return this.#plain.type
  }

  #decode(topic: Topic, envelope: Slice): Decoded {
    const decoded = decodeEnvelope(envelope.view(), this.#maxBytes, this.#readMsgpack)
    if (decoded.kind === 'rejected' || decoded.kind === 'presence') return decoded
    if (decoded.kind !== 'publication') {
      // Commands for a channel or for all are refused: one mistake could close every connection.
      if (isTarget(topic)) return decoded
      const message = 'a command goes to user:ID or connection:ID'
      return { kind: 'rejected', reason: 'field', message, receipt: decoded.receipt }
    }
    const mismatch = this.#schemas.problem(decoded.type, decoded.value)
    if (!mismatch) return decoded
    return { kind: 'rejected', reason: 'schema', message: mismatch, receipt: decoded.receipt }
  }

  /** A plain envelope only lacks the origin of a message: its bytes are copied and not encoded again. */
  extended({ topic, envelope, position }: Framed): Extended {
    const isTopicAlone = position === undefined && needsNoEscape(topic)
    const origin = isTopicAlone ? undefined : Buffer.from(encodeOrigin(topic, position ?? {}))
    return { object: envelope, topic, origin }
  }

  /** The frame of a publication; a recorded one has the `seq` and `id` of its position. */
  frame(incoming: Framed, taken: Plain | Publication, isLive: boolean): Frames {
    if (taken.kind === 'plain') return encodeExtended(this.extended(incoming))
    const { topic, position } = incoming
    const { type, payload, from, seq, ack, receipt } = taken
    const origin = { ...(position ?? { seq }), from, ack: ack && isLive ? receipt : undefined }
    return encodeFrame(encodePublication(topic, type, payload, origin))
  }
}

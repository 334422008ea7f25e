import { type Decoded, decodeEnvelope, isTarget, type Publication } from './envelope.ts'
import { encodeFrame, encodeFrameWith, type Frames } from './frame.ts'
import type { Position } from './position.ts'
import { encodeOrigin, encodePublication } from './protocol.ts'
import type { SchemaTable } from './schemas.ts'
import type { Topic } from './topic.ts'

/** From an envelope, which any program may have written, to frames: for what comes in and what is read back alike. */
export class Intake {
  readonly #schemas: SchemaTable
  readonly #maxBytes: number
  readonly #failed: (error: unknown) => void

  constructor(schemas: SchemaTable, maxBytes: number, failed: (error: unknown) => void) {
    this.#schemas = schemas
    this.#maxBytes = maxBytes
    this.#failed = failed
  }

  /** Never throws: the broker calls, and must not be thrown out of its stride. */
  decode(topic: Topic, envelope: Uint8Array): Decoded {
    try {
      return this.#decode(topic, envelope)
    } catch (error) {
      this.#failed(error)
      return { kind: 'rejected', reason: 'schema', message: 'the envelope could not be checked' }
    }
  }

  #decode(topic: Topic, envelope: Uint8Array): Decoded {
    const decoded = decodeEnvelope(envelope, this.#maxBytes)
    if (decoded.kind === 'rejected') return decoded
    if (decoded.kind !== 'publication') {
      // Commands for a channel or for all would let one slip close everybody.
      if (isTarget(topic)) return decoded
      const message = 'a command goes to user:ID or connection:ID'
      return { kind: 'rejected', reason: 'field', message, receipt: decoded.receipt }
    }
    const mismatch = this.#schemas.problem(decoded.type, decoded.value)
    if (!mismatch) return decoded
    return { kind: 'rejected', reason: 'schema', message: mismatch, receipt: decoded.receipt }
  }

  /**
   * The frame of a publication; a recorded one has the number and the id of its position. A plain envelope is the
   * message but for its origin: its bytes are copied and nothing is written anew.
   */
  frame(
    topic: Topic,
    envelope: Uint8Array,
    publication: Publication,
    position: Position | undefined,
    isLive: boolean,
  ): Frames {
    const { type, payload, seq, isPlain, ack, receipt } = publication
    const origin = { ...(position ?? { seq }), ack: ack && isLive ? receipt : undefined }
    if (isPlain) return encodeFrameWith(envelope, encodeOrigin(topic, position ?? {}))
    return encodeFrame(encodePublication(topic, type, payload, origin))
  }
}

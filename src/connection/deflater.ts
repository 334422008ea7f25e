import { constants, deflateRawSync } from 'node:zlib'
import { type Frame, frameOf, framesIn } from './frame.ts'
import type { Segment } from './queue.ts'

export interface DeflaterOptions {
  /** Messages of fewer bytes are sent as they are. */
  threshold: number
  /** Of zlib: 1 is fast, 9 is small. */
  level: number
}

/** The end of everything that zlib flushes, which the receiver adds itself (RFC 7692 section 7.2.1). */
const TRAILER_BYTES = 4

/**
 * Compresses messages for permessage-deflate without context takeover (RFC 7692): each stands for itself, so it is
 * compressed once and is the same for all connections that negotiated this. A window that outlived the message would cost
 * each connection a compression and 256 KiB of its own.
 */
export class Deflater {
  readonly #threshold: number
  readonly #level: number

  constructor({ threshold, level }: DeflaterOptions) {
    this.#threshold = threshold
    this.#level = level
  }

  /** The frames of `segment`, the large ones compressed; undefined if none gets smaller. The segment keeps the result. */
  deflated(segment: Segment): Buffer | undefined {
    if (segment.bytes < this.#threshold) return undefined
    if (segment.deflated === undefined) segment.deflated = this.#deflateAll(segment) ?? null
    return segment.deflated ?? undefined
  }

  #deflateAll(segment: Segment): Buffer | undefined {
    let isSmaller = false
    const frames = framesIn(segment).map(frame => {
      const deflated = this.#deflate(frame)
      isSmaller ||= deflated !== undefined
      return deflated ?? frame.bytes
    })
    return isSmaller ? Buffer.concat(frames) : undefined
  }

  #deflate({ bytes, payloadStart, binary }: Frame): Buffer | undefined {
    const payload = bytes.subarray(payloadStart)
    if (payload.length < this.#threshold) return undefined
    const flushed = deflateRawSync(payload, { level: this.#level, finishFlush: constants.Z_SYNC_FLUSH })
    const length = flushed.length - TRAILER_BYTES
    return length < payload.length ? frameOf(flushed.subarray(0, length), { binary, isCompressed: true }) : undefined
  }
}

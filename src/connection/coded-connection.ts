import type { Codec } from '../protocol/codecs/codec.ts'
import { codedSegment } from './coded-segment.ts'
import { Connection, type Outlet } from './connection.ts'
import type { Identity } from './identity.ts'
import type { Segment } from './queue.ts'
import type { Transport } from './transport.ts'

/**
 * A connection whose client reads another codec than JSON. All that comes to it is queued in its own form. A class of its
 * own, so that the many that read JSON neither ask nor hold what this one has to.
 */
export class CodedConnection extends Connection {
  readonly #codec: Codec

  constructor(identity: Identity, transport: Transport, outlet: Outlet, codec: Codec) {
    super(identity, transport, outlet)
    this.#codec = codec
  }

  override get codec(): Codec {
    return this.#codec
  }

  protected override coded(segment: Segment): Segment {
    return codedSegment(segment, this.#codec, (messages, failed) => {
      this.outlet.recoded(this.#codec.name, messages, failed)
    })
  }

  override push(segment: Segment): boolean {
    return this.state === 'closing' ? false : super.push(this.coded(segment))
  }

  /** A tail holds JSON. */
  override takesTail(): boolean {
    return false
  }
}

/** How messages get to a client. */
export interface Line {
  transport: Transport
  /** Undefined for JSON. */
  codec?: Codec | undefined
}

export function createConnection(identity: Identity, { transport, codec }: Line, outlet: Outlet): Connection {
  return codec ? new CodedConnection(identity, transport, outlet, codec) : new Connection(identity, transport, outlet)
}

import { type Codec, JSON_PROTOCOL } from '../protocol/codecs/codec.ts'
import type { EnvelopeReader } from '../protocol/envelope.ts'
import { errors } from '../protocol/errors.ts'

/** What the option `codecs` names. */
export type CodecName = 'json' | Codec['name']

/** The codecs of a registration besides JSON. Their packages are loaded only where somebody names them. */
export class Codecs {
  /** The subprotocols that a client may ask for. */
  readonly protocols: ReadonlySet<string>
  /** Reads envelopes in MessagePack; undefined if they have to be JSON. */
  readonly readMsgpack: EnvelopeReader | undefined
  readonly #byProtocol: ReadonlyMap<string, Codec>

  private constructor(codecs: readonly Codec[], readMsgpack: EnvelopeReader | undefined) {
    this.#byProtocol = new Map(codecs.map(codec => [codec.protocol, codec]))
    this.protocols = new Set([JSON_PROTOCOL, ...this.#byProtocol.keys()])
    this.readMsgpack = readMsgpack
  }

  static async open(names: readonly CodecName[]): Promise<Codecs> {
    const msgpack = names.includes('msgpack') ? await loadMsgpack() : undefined
    const protobuf = names.includes('protobuf') ? await loadProtobuf() : undefined
    const codecs = [msgpack?.strictMsgpack, protobuf?.protobuf].filter(codec => codec !== undefined)
    return new Codecs(codecs, msgpack?.envelopeToJson)
  }

  /** The codec that was selected by this subprotocol; undefined for JSON. */
  of(protocol: string): Codec | undefined {
    return this.#byProtocol.get(protocol)
  }
}

function loadMsgpack() {
  return import('../protocol/codecs/strict-msgpack.ts').catch(cause => refuse('msgpack', '@msgpack/msgpack', cause))
}

function loadProtobuf() {
  return import('../protocol/codecs/protobuf.ts').catch(cause => refuse('protobuf', '@bufbuild/protobuf', cause))
}

function refuse(name: CodecName, pack: string, cause: unknown): never {
  throw new errors.OPTIONS(`option codecs: "${name}" needs ${pack}: npm install ${pack}`, { cause })
}

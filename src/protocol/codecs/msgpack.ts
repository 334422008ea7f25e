import { Decoder, Encoder, ExtensionCodec } from '@msgpack/msgpack'
import { type Codec, MAX_DEPTH, TOO_DEEP } from './codec.ts'

/** Thrown while something is written that says itself how it looks in JSON, such as a Date. */
class OwnJson extends Error {}

/** No extension types: JSON has nothing that they could become. */
class NoExtensions extends ExtensionCodec {
  override tryToEncode(value: unknown): null {
    if (typeof (value as { toJSON?: unknown }).toJSON === 'function' && !ArrayBuffer.isView(value)) throw new OwnJson()
    return null
  }
}

// A text or a number in the deepest list counts as one deeper.
const encoder = new Encoder({
  maxDepth: MAX_DEPTH + 1,
  ignoreUndefined: true,
  extensionCodec: new NoExtensions(),
})
const decoder = new Decoder()

/** MessagePack. Reads what a server of ours sends; what clients send is read by `strictMsgpack`. */
export const msgpack: Codec = {
  name: 'msgpack',
  protocol: 'push.msgpack',

  encodeMessage(message) {
    try {
      return encoder.encode(message)
    } catch (error) {
      if (error instanceof OwnJson) return encoder.encode(plain(message))
      if (error instanceof Error && error.message.startsWith('Too deep')) throw new Error(TOO_DEEP, { cause: error })
      throw error
    }
  },

  decodeMessage: bytes => decoder.decode(bytes),
}

/** The value as JSON.stringify would take it, with bytes as they are. */
function plain(value: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH) throw new Error(TOO_DEEP)
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  if (Array.isArray(value)) return value.map(item => plain(item, depth + 1))
  const { toJSON } = value as { toJSON?: () => unknown }
  if (typeof toJSON === 'function') return plain(toJSON.call(value), depth + 1)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]))
}

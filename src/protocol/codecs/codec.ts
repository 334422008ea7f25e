/**
 * Another way than JSON to write messages. The messages are the same, with the same keys, and bytes are bytes. Browsers
 * and nodes use the same object.
 */
export interface Codec {
  /** As in the option `codecs`. */
  readonly name: 'msgpack' | 'protobuf'
  /** The subprotocol by which a client asks for it. */
  readonly protocol: string
  /** The bytes of one message. Throws an Error that says what in it cannot be written. */
  encodeMessage(message: object): Uint8Array<ArrayBuffer>
  /** The message in these bytes, which anybody may have sent: throws an Error that says what is wrong with them. */
  decodeMessage(bytes: Uint8Array): unknown
}

/** The subprotocol of JSON, which needs no codec: a client that asks for none speaks it. */
export const JSON_PROTOCOL = 'push.json'

/** The message that stands for a binary frame, where every frame is a message. Its payload is bytes. */
export const BINARY_TYPE = 'push.binary'

/** Objects and lists inside each other, the message itself included. Deeper ones are neither written nor read. */
export const MAX_DEPTH = 100

export const TOO_DEEP = `it is nested more than ${MAX_DEPTH} deep`

/** Decoders for other languages, and for this one, refuse it or set the prototype of an object with it. */
export const FORBIDDEN_KEY = '__proto__'

export const BAD_KEY = `it has the key ${FORBIDDEN_KEY}`

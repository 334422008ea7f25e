import { withForms } from '../protocol/binary.ts'
import { BINARY_TYPE, type Codec } from '../protocol/codecs/codec.ts'
import { type BadMessage, type ClientMessage, parseClientMessage, toClientMessage } from '../protocol/messages.ts'

/** What a client sent: a message, something unusable, or bytes for the binary handler. */
export type Received = ClientMessage | BadMessage | { bytes: Buffer }

/**
 * Reads what a client with this codec sent; undefined for JSON. Bytes in payloads have their form in JSON, whatever the codec:
 * handlers, schemas, workers and backends see the same of every client.
 */
export function readClientMessage(codec: Codec | undefined, data: Buffer, isBinary: boolean): Received {
  if (!codec) return isBinary ? { bytes: data } : parseClientMessage(data.toString())
  if (!isBinary) return { problem: `a text frame: this connection speaks ${codec.protocol}`, ref: undefined }
  let value: unknown
  try {
    value = codec.decodeMessage(data)
  } catch (error) {
    return { problem: `the message is not ${codec.name}: ${(error as Error).message}`, ref: undefined }
  }
  const { type, payload } = (value ?? {}) as { type?: unknown; payload?: unknown }
  if (type !== BINARY_TYPE) return toClientMessage(withForms(value))
  const message = toClientMessage(value)
  if ('problem' in message) return message
  if (!(payload instanceof Uint8Array))
    return { problem: `the payload of ${BINARY_TYPE} is not bytes`, ref: message.ref }
  return { bytes: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength) }
}

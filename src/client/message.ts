import type { Codec } from '../protocol/codecs/codec.ts'
import type { PublishedMessage } from './options.ts'

/** A message of the server. */
export type Message = PublishedMessage & { ref?: unknown; ack?: unknown }

/** Undefined if it is none. `codec`: undefined for JSON. */
export function parse(data: unknown, codec?: Codec): Message | undefined {
  try {
    const message = codec ? codec.decodeMessage(new Uint8Array(data as ArrayBuffer)) : JSON.parse(data as string)
    return typeof (message as Message)?.type === 'string' ? (message as Message) : undefined
  } catch {
    return undefined
  }
}

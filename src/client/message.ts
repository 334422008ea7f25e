import type { Codec } from '../protocol/codecs/codec.ts'
import type { PublishedMessage } from './options.ts'

/** A message of the server. */
export type Message = PublishedMessage & { ref?: unknown; ack?: unknown }

/** Whether it is a list of texts: a key of another kind may have no text at all, and would throw. */
export function areTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}

/** Undefined if it is none. `codec`: undefined for JSON. */
export function parse(data: unknown, codec?: Codec): Message | undefined {
  try {
    const message = codec ? codec.decodeMessage(new Uint8Array(data as ArrayBuffer)) : JSON.parse(data as string)
    return typeof (message as Message)?.type === 'string' ? (message as Message) : undefined
  } catch {
    return undefined
  }
}

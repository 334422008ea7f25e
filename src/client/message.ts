import type { PublishedMessage } from './options.ts'

/** A message of the server. */
export type Message = PublishedMessage & { ref?: unknown; ack?: unknown }

/** Undefined if it is none. */
export function parse(text: string): Message | undefined {
  try {
    const message = JSON.parse(text)
    return typeof message?.type === 'string' ? message : undefined
  } catch {
    return undefined
  }
}

import { closing, frame, TEXT } from '../helpers/frame-client.ts'

/** Something that sends back what it gets, and how text has to be written so that it does. */
export interface Echo {
  name: string
  path: string
  /** The message that is sent for a text. */
  wrap(text: Uint8Array): Buffer
  /** The text in the message that comes back; undefined for a message that is no echo. */
  unwrap(message: Buffer): Buffer | undefined
}

export type Message = readonly [opcode: number, content: Buffer]

/** One case: what a client sends, and what a server that keeps to RFC 6455 and RFC 7692 does. */
export interface Case {
  section: string
  name: string
  /** What is written, piece by piece. */
  send(echo: Echo): readonly Uint8Array[]
  /** Texts and bytes that come back, in order; before a violation perhaps only the first of them. */
  messages?: readonly Message[]
  pongs?: readonly Uint8Array[]
  /** The codes with which the server may close. Absent: the client closes with 1000, and the server answers with that. */
  closes?: readonly number[]
  /** Extensions that the client offers. */
  offer?: string
  /** Left out of the short form. */
  isLong?: boolean
}

export const PROTOCOL = 1002
export const UTF8 = 1007

/** What the client of a case sends if the server does not close first. */
export const GOODBYE = frame(0x80 | 0x8, closing(1000))

/** The same bytes in pieces of `size`, each written by itself. */
export function chopped(bytes: readonly Uint8Array[], size: number): Uint8Array[] {
  const all = Buffer.concat(bytes)
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.subarray(i * size, (i + 1) * size))
}

export const bytesOf = (text: string): Buffer => Buffer.from(text)

/** A text message in one frame. */
export const whole = (echo: Echo, text: Uint8Array): Buffer => frame(0x80 | TEXT, echo.wrap(text))

/** One message in fragments of these bytes; `first` is the first byte of the first frame, without the bit for the end. */
export function fragments(parts: readonly Uint8Array[], first = TEXT): Buffer[] {
  return parts.map((part, i) => frame((i === 0 ? first : 0) | (i === parts.length - 1 ? 0x80 : 0), part))
}

/** Cut into `count` parts of nearly the same size. */
export function cut(bytes: Buffer, count: number): Buffer[] {
  const size = Math.ceil(bytes.length / count)
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

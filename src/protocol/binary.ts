/**
 * Bytes in JSON, which has none: `{"$binary":"aGk="}`, an object with this key alone and padded base64 (RFC 4648 section
 * 4) under it. Codecs that have bytes write bytes instead, and the other way round.
 */
export interface BinaryForm {
  $binary: string
}

const KEY = '$binary'

/** What is nested deeper is not looked through. No codec but JSON writes it. */
const MAX_LOOK = 1000

export function binaryForm(bytes: Uint8Array): BinaryForm {
  return { [KEY]: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64') }
}

/** The bytes of a `BinaryForm`; undefined for any other value. */
export function bytesOf(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  if (typeof value !== 'object' || value === null || Object.keys(value).join() !== KEY) return undefined
  const { $binary: text } = value as Partial<BinaryForm>
  if (typeof text !== 'string') return undefined
  const bytes = Buffer.from(text, 'base64')
  // A decoder skips what is none of its characters. A pattern would take hundreds of times as long, and all of the stack.
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined
}

/** JSON text with bytes in their form. Undefined and throws as JSON.stringify, which writes bytes as lists of numbers. */
export function stringify(value: unknown): string | undefined {
  const text = JSON.stringify(value)
  // Only now: JSON.stringify has thrown if the value is a circle, in which the search would go round for ever.
  return holdsBytes(value, 0) ? JSON.stringify(withForms(value)) : text
}

/** `value`, which is no circle, with every `Uint8Array` in its form. The same object if it has none. */
export function withForms(value: unknown): unknown {
  return holdsBytes(value, 0) ? convert(value, it => (it instanceof Uint8Array ? binaryForm(it) : undefined)) : value
}

/** A parsed JSON value with bytes in the place of their forms. */
export function withBytes(value: unknown): unknown {
  return convert(value, bytesOf)
}

function holdsBytes(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null || depth > MAX_LOOK) return false
  if (value instanceof Uint8Array) return true
  if (Array.isArray(value)) return value.some(item => holdsBytes(item, depth + 1))
  if (hasOwnJson(value)) return false
  for (const key of Object.keys(value)) if (holdsBytes((value as Record<string, unknown>)[key], depth + 1)) return true
  return false
}

/** A Date, for example, says itself how it is written. */
function hasOwnJson(value: object): boolean {
  return typeof (value as { toJSON?: unknown }).toJSON === 'function'
}

function convert(value: unknown, replace: (value: object) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const replaced = replace(value)
  if (replaced !== undefined) return replaced
  if (Array.isArray(value)) return value.map(item => convert(item, replace))
  if (hasOwnJson(value)) return value
  // Object.fromEntries makes a key `__proto__` a key like any other.
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, convert(item, replace)]))
}

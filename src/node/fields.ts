import { errors } from '../protocol/errors.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/** The payload of a protocol message. Throws when it has an unknown key. */
export function fieldsOf<K extends string>(payload: unknown, known: readonly K[]): { [Key in K]?: unknown } {
  const fields = typeof payload === 'object' && payload !== null ? payload : {}
  const unknown = unknownKey(fields, known)
  if (unknown) throw new errors.BAD_MESSAGE(`payload: ${unknown}`)
  return fields
}

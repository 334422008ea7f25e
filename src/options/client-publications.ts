import { type Static, type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { errors } from '../protocol/errors.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { fail, isPlainObject, refuse, refuseType, withDefaults } from './values.ts'

/** The plain values of an entry of the option `clientPublications`. */
const EntrySchema = Type.Object(
  {
    schema: Type.Unknown({ description: 'TypeBox or JSON schema of the payload; required' }),
    rate: Type.Integer({
      minimum: 1,
      maximum: 10_000,
      default: 20,
      description: 'publications of this type that a connection may make in a second, twice as many in a burst',
    }),
  },
  { additionalProperties: false },
)

const check = Compile(EntrySchema)

/** A type that clients may publish. */
export interface ClientPublication {
  /** A TypeBox or JSON schema of the payload. */
  schema: TSchema
  /** Publications of this type that a connection may make in a second, twice as many in a burst. Default 20. */
  rate?: number | undefined
}

export type ClientPublicationRules = Readonly<Record<string, { schema: TSchema; rate: number }>>

export function parseClientPublications(given: Record<string, unknown>): ClientPublicationRules {
  const rules = Object.entries(given).map(([type, entry]) => {
    const path = `clientPublications["${type}"]`
    refuseType(path, type)
    if (!isPlainObject(entry) || !isPlainObject(entry.schema)) fail(path, 'must be { schema } or { schema, rate }')
    const unknown = unknownKey(entry, Object.keys(EntrySchema.properties))
    if (unknown) throw new errors.OPTIONS(`${path}: ${unknown}`)
    const plain = withDefaults(EntrySchema, entry)
    if (!check.Check(plain)) refuse(EntrySchema, check.Errors(plain), plain, `${path}.`)
    return [type, plain as Static<typeof EntrySchema> & { schema: TSchema }] as const
  })
  return Object.fromEntries(rules)
}

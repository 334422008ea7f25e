import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { isPlainObject, refuse, withDefaults } from './values.ts'

/** The plain values of the option `compression`. */
export const CompressionSchema = Type.Object(
  {
    threshold: Type.Integer({
      minimum: 64,
      maximum: Number.MAX_SAFE_INTEGER,
      default: 1024,
      description: 'messages of fewer bytes are sent as they are',
    }),
    level: Type.Integer({
      minimum: 1,
      maximum: 9,
      default: 3,
      description: 'of zlib: 1 takes the least time, 9 the fewest bytes',
    }),
  },
  { additionalProperties: false },
)

export type Compression = Static<typeof CompressionSchema>

/** Messages of this size and more are compressed for clients that offer it: permessage-deflate. `true`: with the defaults. */
export type CompressionOption = boolean | { [K in keyof Compression]?: Compression[K] | undefined }

const check = Compile(CompressionSchema)

/** Reads the option `compression`; undefined if it is off. `fail` throws with the option and what is wrong with it. */
export function parseCompression(
  given: unknown,
  fail: (option: string, problem: string) => never,
): Compression | undefined {
  if (given === undefined || given === false) return undefined
  if (given !== true && !isPlainObject(given)) fail('compression', 'must be true, false or { threshold, level }')
  const plain = withDefaults(CompressionSchema, given === true ? {} : (given as Record<string, unknown>))
  if (!check.Check(plain)) refuse(CompressionSchema, check.Errors(plain), plain, 'compression.')
  return plain as Compression
}

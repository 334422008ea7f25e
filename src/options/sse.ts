import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { fail, isPlainObject, refuse, withDefaults } from './values.ts'

/** The plain values of the option `sse`. */
export const SseSchema = Type.Object(
  {
    retry: Type.Integer({
      minimum: 100,
      maximum: 10 * 60_000,
      default: 2000,
      description:
        'when a client that lost its stream asks again, in milliseconds; each is told another time, up to twice as long',
    }),
  },
  { additionalProperties: false },
)

export type Sse = Static<typeof SseSchema>

/** Event streams over HTTP at `<path>/-/events`. `true`: with the defaults. */
export type SseOption = boolean | { [K in keyof Sse]?: Sse[K] | undefined }

const check = Compile(SseSchema)

/** Reads the option `sse`; undefined if it is off. */
export function parseSse(given: unknown): Sse | undefined {
  if (given === undefined || given === false) return undefined
  if (given !== true && !isPlainObject(given)) fail('sse', 'must be true, false or { retry }')
  const plain = withDefaults(SseSchema, given === true ? {} : (given as Record<string, unknown>))
  if (!check.Check(plain)) refuse(SseSchema, check.Errors(plain), plain, 'sse.')
  return plain as Sse
}

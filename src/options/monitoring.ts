import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { errors } from '../protocol/errors.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { fail, isPlainObject, refuse, withDefaults } from './values.ts'

/** The plain values of the option `metrics`. */
export const MetricsSchema = Type.Object(
  {
    prefix: Type.String({
      pattern: '^[a-z][a-z0-9_]{0,63}$',
      default: 'push_',
      description: 'begins the name of every metric',
    }),
    register: Type.Optional(Type.Unknown({ description: 'a Registry of prom-client; default: its global one' })),
  },
  { additionalProperties: false },
)

/** The option `health`. */
export const HealthSchema = Type.Object(
  {
    path: Type.String({
      pattern: '^/([^\\s?#*:]*[^\\s?#*:/])?$',
      default: '/',
      description: 'where livez and readyz are: "/health" for /health/livez and /health/readyz',
    }),
    start: Type.Integer({
      minimum: 0,
      maximum: 600_000,
      default: 10_000,
      description: 'how long readyz may answer 503 at the start because Redis is not there yet, in milliseconds',
    }),
    details: Type.Boolean({
      default: false,
      description: 'show who asks what is wrong with Redis, and how many connections there are',
    }),
  },
  { additionalProperties: false },
)

/** The part of a Registry of prom-client that is used. Not its own type: applications without prom-client compile ours. */
export interface MetricsRegister {
  registerMetric(metric: never): void
  removeSingleMetric(name: string): void
}

export interface MetricsOptions {
  prefix: string
  register: MetricsRegister | undefined
}

export type HealthOptions = Static<typeof HealthSchema>

type Given<T> = { [K in keyof T]?: T[K] | undefined }
export type MetricsInput = boolean | Given<MetricsOptions>
export type HealthInput = boolean | Given<HealthOptions>

const metricsCheck = Compile(MetricsSchema)
const healthCheck = Compile(HealthSchema)

export function parseMetrics(given: unknown): MetricsOptions | undefined {
  const set = objectOf('metrics', given, Object.keys(MetricsSchema.properties))
  if (!set) return undefined
  const plain = withDefaults(MetricsSchema, set)
  if (!metricsCheck.Check(plain)) refuse(MetricsSchema, metricsCheck.Errors(plain), plain, 'metrics.')
  const { prefix, register } = plain as { prefix: string; register?: Partial<MetricsRegister> }
  if (register !== undefined && typeof register?.registerMetric !== 'function') {
    fail('metrics.register', 'is no Registry of prom-client: give new Registry(), or leave it out for the global one')
  }
  return { prefix, register: register as MetricsRegister | undefined }
}

export function parseHealth(given: unknown): HealthOptions | undefined {
  const set = objectOf('health', given, Object.keys(HealthSchema.properties))
  if (!set) return undefined
  const plain = withDefaults(HealthSchema, set)
  if (!healthCheck.Check(plain)) refuse(HealthSchema, healthCheck.Errors(plain), plain, 'health.')
  return plain as HealthOptions
}

/** `true` stands for all defaults. */
function objectOf(name: string, given: unknown, keys: readonly string[]): Record<string, unknown> | undefined {
  if (given === undefined || given === false) return undefined
  if (given === true) return {}
  if (!isPlainObject(given)) fail(name, 'must be true or an object')
  const unknown = unknownKey(given, keys)
  if (unknown) throw new errors.OPTIONS(`${name}: ${unknown}`)
  return given
}

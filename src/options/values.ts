import type { TSchema } from 'typebox'
import { errors } from '../protocol/errors.ts'
import { isReservedType, typeProblem } from '../protocol/messages.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/** What a schema of options may have. */
type Schema = TSchema & {
  properties?: Record<string, Schema>
  items?: Schema
  description?: string
  default?: unknown
}

/** Fills in defaults. An `undefined` value counts as left out, as in `{ origins: process.env.ORIGINS?.split(',') }`. */
export function withDefaults(schema: Schema, given: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const key in given) if (given[key] !== undefined) result[key] = given[key]
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (result[key] === undefined && property.default !== undefined) result[key] = property.default
    if (property.properties && isPlainObject(result[key])) result[key] = withDefaults(property, result[key])
  }
  return result
}

/** Throws PUSH_ERR_OPTIONS for the first error that a schema found: where it is, what is expected, and the default. */
export function refuse(
  schema: Schema,
  found: readonly { keyword: string; instancePath: string; message: string; params: object }[],
  value: unknown,
  at = '',
): never {
  const first = found[0]!
  const keys = first.instancePath.split('/').slice(1)
  // TypeBox reports an unknown key as an error of the schema `false` at that key.
  if (first.keyword === 'boolean') {
    keys.pop()
    const holder = keys.reduce<unknown>((v, key) => (v as Record<string, unknown>)[key], value)
    const known = Object.keys(lookUp(schema, keys).properties ?? {})
    if (isPlainObject(holder)) throw new errors.OPTIONS(`${at}${keys.join('.')}: ${unknownKey(holder, known)}`)
  }
  const { description, default: fallback } = lookUp(schema, keys)
  const hint = description
    ? ` (${description}${fallback === undefined ? '' : `; default ${JSON.stringify(fallback)}`})`
    : ''
  fail(at + keys.join('.'), `${first.message}${hint}`)
}

function lookUp(schema: Schema, keys: readonly string[]): Schema {
  return keys.reduce((here, key) => here.properties?.[key] ?? (here.items?.properties ? here.items : here), schema)
}

export function fail(path: string, problem: string): never {
  throw new errors.OPTIONS(`option ${path} ${problem}`)
}

/** Throws unless an application may use `type`. */
export function refuseType(path: string, type: string): void {
  const problem =
    typeProblem(type) ?? (isReservedType(type) ? 'type is reserved for the protocol: choose another' : undefined)
  if (problem) fail(path, `cannot be: ${problem}`)
}

export function pick(from: Record<string, unknown>, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(keys.filter(key => from[key] !== undefined).map(key => [key, from[key]]))
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

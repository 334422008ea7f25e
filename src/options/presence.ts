import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { matchesPattern, patternProblem, type Topic, topicKind } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/** How presence works on a topic. */
export const PresenceRuleSchema = Type.Object(
  {
    info: Type.Boolean({ default: false, description: 'show what authenticate() gave as info' }),
    grace: Type.Integer({
      minimum: 0,
      maximum: 600_000,
      default: 5000,
      description: 'milliseconds after which a user counts as gone whose last connection has closed',
    }),
    members: Type.Integer({
      minimum: 1,
      maximum: 10_000,
      default: 500,
      description: 'the largest list that clients get; of more users they get the number and a sample',
    }),
  },
  { additionalProperties: false },
)

export type PresenceRule = Static<typeof PresenceRuleSchema>

/** A node that has died is noticed after this many milliseconds. */
const LEASE = { default: 15_000, minimum: 1000, maximum: 600_000 }

const check = Compile(PresenceRuleSchema)
const keys = Object.keys(PresenceRuleSchema.properties)

type GivenRule = { [K in keyof PresenceRule]?: PresenceRule[K] | undefined }

/**
 * Who is on a topic: `{ 'channel:room.*': { info: true, grace: 5000 } }`, the first matching pattern decides. `users` is
 * who is online at all, on the topic `all`.
 */
export interface PresenceOption {
  users?: boolean | GivenRule
  /** How long a node that has died is taken for alive, in milliseconds. Default 15,000. */
  lease?: number
  [pattern: string]: boolean | number | GivenRule | undefined
}

/** Which topics have presence. */
export class PresenceRules {
  readonly lease: number
  readonly #rules: [pattern: string, rule: PresenceRule][]

  constructor(rules: readonly [pattern: string, rule: PresenceRule][] = [], lease = LEASE.default) {
    this.#rules = [...rules]
    this.lease = lease
  }

  get areAny(): boolean {
    return this.#rules.length > 0
  }

  of(topic: Topic): PresenceRule | undefined {
    if (this.#rules.length === 0 || topicKind(topic) === 'connection') return undefined
    return this.#rules.find(([pattern]) => matchesPattern(pattern, topic))?.[1]
  }
}

/** Reads the option `presence`. `fail` throws with the option and what is wrong with it. */
export function parsePresence(given: PresenceOption, fail: (option: string, problem: string) => never): PresenceRules {
  const { users, lease = LEASE.default, ...patterns } = given
  if (!Number.isInteger(lease) || lease < LEASE.minimum || lease > LEASE.maximum) {
    fail('presence.lease', `is not a whole number of milliseconds from ${LEASE.minimum} to ${LEASE.maximum}`)
  }
  const rules: [string, PresenceRule][] = []
  if (users !== undefined && users !== false) {
    rules.push(['all', { ...parseRule('presence.users', users === true ? {} : users, fail), info: true }])
  }
  for (const [pattern, rule] of Object.entries(patterns)) {
    const option = `presence["${pattern}"]`
    const problem = /^(all$|connection:)/.test(pattern)
      ? 'write users: true for who is online, and the pattern of a channel or user for anything else'
      : patternProblem(pattern)
    if (problem) fail(option, `is not allowed: ${problem}`)
    if (rule !== false && rule !== undefined) rules.push([pattern, parseRule(option, rule === true ? {} : rule, fail)])
  }
  return new PresenceRules(rules, lease)
}

function parseRule(option: string, given: unknown, fail: (option: string, problem: string) => never): PresenceRule {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    fail(option, 'must be true or { info, grace, members }')
  const unknown = unknownKey(given as object, keys)
  if (unknown) fail(option, unknown)
  const set = Object.fromEntries(Object.entries(given as object).filter(([, value]) => value !== undefined))
  const rule = { ...(Value.Create(PresenceRuleSchema) as object), ...set }
  if (check.Check(rule)) return rule
  const [first] = check.Errors(rule)
  return fail(`${option}.${first?.instancePath.slice(1)}`, first?.message ?? 'is not valid')
}

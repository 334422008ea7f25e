import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { HistoryRule } from '../broker/broker.ts'
import { matchesPattern, patternProblem, type Topic, topicKind } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/** How much of a recorded topic is kept. */
export const HistoryRuleSchema = Type.Object(
  {
    size: Type.Integer({ minimum: 1, maximum: 100_000, description: 'entries: the newest ones are kept' }),
    ttl: Type.Integer({ minimum: 1, maximum: 366 * 24 * 60 * 60, description: 'seconds that an entry is kept' }),
  },
  { additionalProperties: false },
)

const check = Compile(HistoryRuleSchema)
const keys = Object.keys(HistoryRuleSchema.properties)

/** Why `value` is not a history rule; undefined when it is one. */
export function historyRuleProblem(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'is not {size, ttl}'
  const unknown = unknownKey(value, keys)
  if (unknown) return `has an ${unknown}`
  if (check.Check(value)) return undefined
  const [first] = check.Errors(value)
  const field = first?.instancePath.slice(1)
  return field ? `has a ${field} that ${first!.message}` : 'needs size (entries) and ttl (seconds)'
}

/**
 * Which topics are recorded: `{ 'channel:orders.*': { size: 1000, ttl: 3600 } }`. The first matching pattern decides.
 */
export class HistoryRules {
  readonly #rules: [pattern: string, rule: HistoryRule][]

  constructor(rules: Readonly<Record<string, HistoryRule>> = {}) {
    this.#rules = Object.entries(rules)
  }

  of(topic: Topic): HistoryRule | undefined {
    if (this.#rules.length === 0 || topicKind(topic) === 'connection') return undefined
    return this.#rules.find(([pattern]) => matchesPattern(pattern, topic))?.[1]
  }
}

/** Why `rules` cannot be the option `history`; undefined when it can. */
export function rulesProblem(rules: unknown): string | undefined {
  if (typeof rules !== 'object' || rules === null || Array.isArray(rules)) {
    return 'must be an object such as { "channel:orders.*": { size: 1000, ttl: 3600 } }'
  }
  for (const [pattern, rule] of Object.entries(rules)) {
    if (pattern.startsWith('connection:')) return `["${pattern}"] is not allowed: connections are never recorded`
    const problem = patternProblem(pattern)
    if (problem) return `["${pattern}"] is not allowed: ${problem}`
    const badRule = historyRuleProblem(rule)
    if (badRule) return `["${pattern}"] ${badRule}`
  }
  return undefined
}

import { matchesPattern, patternProblem, type Topic } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** What one may be allowed to do with a topic. Whoever may subscribe to it is also sent what it missed. */
export const ACTIONS = ['subscribe', 'publish', 'presence', 'history'] as const

export type Action = (typeof ACTIONS)[number]

/** These actions on the topics that these patterns cover. */
export interface Grant {
  topics: string | readonly string[]
  actions: readonly Action[]
}

/** One of a list of rights: a topic or a pattern by itself is for subscribing. */
export type Right = string | Grant

/** What `true` grants and a pattern by itself: never more, so that what is added later is open to nobody. */
const ORDINARY: readonly Action[] = ['subscribe']

const KEYS = ['topics', 'actions']

/** What of `rights` concerns `topic`. */
export function actionsOn(rights: readonly Right[], topic: Topic): readonly Action[] {
  return rights.flatMap(right => {
    if (typeof right === 'string') return matchesPattern(right, topic) ? ORDINARY : []
    return patternsOf(right.topics).some(pattern => matchesPattern(pattern, topic)) ? right.actions : []
  })
}

/** What the answer of an `authorize` grants. Throws a TypeError for what is none. */
export function grantedActions(answer: unknown): readonly Action[] {
  if (answer === true) return ORDINARY
  if (answer === false || answer === undefined || answer === null) return []
  const problem = Array.isArray(answer) ? actionsProblem(answer) : 'is neither true nor false nor a list of actions'
  if (problem) throw new TypeError(`the answer of authorize() ${problem}`)
  return answer as readonly Action[]
}

/** Why `value` is no right; undefined when it is one. */
export function rightProblem(value: unknown): string | undefined {
  return typeof value === 'object' && value !== null ? grantProblem(value) : patternProblem(value)
}

/** Why `value` is no grant, whatever else it has of `own`; undefined when it is one. */
export function grantProblem(value: object, own: readonly string[] = []): string | undefined {
  const unknown = unknownKey(value, [...own, ...KEYS])
  if (unknown) return unknown
  const { topics, actions } = value as { topics?: unknown; actions?: unknown }
  const patterns = Array.isArray(topics) ? topics : [topics]
  if (patterns.length === 0) return 'topics is an empty list'
  const badPattern = patterns.map(patternProblem).find(problem => problem !== undefined)
  if (badPattern) return `topics: ${badPattern}`
  const badActions = Array.isArray(actions) ? actionsProblem(actions) : 'is no list'
  return badActions && `actions ${badActions}: write for example ["subscribe"]`
}

function actionsProblem(actions: readonly unknown[]): string | undefined {
  const unknown = actions.find(action => !ACTIONS.includes(action as Action))
  if (unknown === undefined && !actions.includes(undefined)) return undefined
  return `has ${JSON.stringify(unknown) ?? 'undefined'}, which is none of ${ACTIONS.join(', ')}`
}

function patternsOf(topics: string | readonly string[]): readonly string[] {
  return typeof topics === 'string' ? [topics] : topics
}

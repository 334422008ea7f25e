import { matchesPattern, patternProblem, type Topic } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** What a client may be allowed to do with a topic, and a key as well. `subscribe` includes recovery of missed messages. */
export const ACTIONS = ['subscribe', 'publish', 'presence', 'history'] as const

export type Action = (typeof ACTIONS)[number]

/** What only a key may be allowed to do: no list of rights of a client may name these. */
export const KEY_ACTIONS = [...ACTIONS, 'close', 'ticket', 'status', 'revoke', 'explain'] as const

export type KeyAction = (typeof KEY_ACTIONS)[number]

/** Allows `actions` on the topics that `topics` covers. */
export interface Grant {
  topics: string | readonly string[]
  actions: readonly Action[]
  /** What others see of the user on these topics, in place of the `info` of the identity: JSON of at most 1,024 bytes. */
  info?: unknown
}

/** A key of the push API that may do only `actions` on the topics that `topics` covers. */
export interface KeyGrant {
  key: string
  topics: string | readonly string[]
  actions: readonly KeyAction[]
}

/** An entry of a list of rights. A topic or pattern alone allows only to subscribe. */
export type Right = string | Grant

/** What `true` and a pattern alone grant. It never grows: an action that is added later must be granted by name. */
const ORDINARY: readonly Action[] = ['subscribe']

const KEYS = ['topics', 'actions']
const CLIENT_KEYS = [...KEYS, 'info']

/** The actions on `topic` that `rights` allow. */
export function actionsOn(rights: readonly Right[], topic: Topic): readonly Action[] {
  return rights.flatMap(right => {
    if (typeof right === 'string') return matchesPattern(right, topic) ? ORDINARY : []
    return covers(right, topic) ? right.actions : []
  })
}

/** What `rights` show of the user on `topic`; undefined if they do not say. The first that does decides. */
export function infoOn(rights: readonly Right[], topic: Topic): unknown {
  for (const right of rights) {
    if (typeof right !== 'string' && right.info !== undefined && covers(right, topic)) return right.info
  }
  return undefined
}

function covers({ topics }: Grant, topic: Topic): boolean {
  return [topics].flat().some(pattern => matchesPattern(pattern, topic))
}

/**
 * Whether one of `keys` allows `action` on all that `pattern` covers. A star in `pattern` is matched as a character, and
 * only a star of the key matches that: so the key covers whatever may stand there.
 */
export function isGranted(keys: readonly Omit<KeyGrant, 'key'>[], action: KeyAction, pattern: string): boolean {
  return keys.some(
    ({ topics, actions }) => actions.includes(action) && [topics].flat().some(it => matchesPattern(it, pattern)),
  )
}

/** The actions that an answer of `authorize` grants. Throws a TypeError when it is not a valid answer. */
export function grantedActions(answer: unknown): readonly Action[] {
  if (answer === true) return ORDINARY
  if (answer === false || answer === undefined || answer === null) return []
  const problem = Array.isArray(answer)
    ? actionsProblem(answer, ACTIONS)
    : 'is neither true nor false nor a list of actions'
  if (problem) throw new TypeError(`the answer of authorize() ${problem}`)
  return answer as readonly Action[]
}

/** Why `value` is not a right; undefined when it is one. */
export function rightProblem(value: unknown): string | undefined {
  return typeof value === 'object' && value !== null ? grantProblem(value, CLIENT_KEYS, ACTIONS) : patternProblem(value)
}

/** Why `value` does not say what a key may do; undefined when it does. */
export function keyGrantProblem(value: object): string | undefined {
  return grantProblem(value, ['key', ...KEYS], KEY_ACTIONS)
}

function grantProblem(value: object, keys: readonly string[], known: readonly string[]): string | undefined {
  const unknown = unknownKey(value, keys)
  if (unknown) return unknown
  const { topics, actions } = value as { topics?: unknown; actions?: unknown }
  const patterns = Array.isArray(topics) ? topics : [topics]
  if (patterns.length === 0) return 'topics is an empty list'
  const badPattern = patterns.map(patternProblem).find(problem => problem !== undefined)
  if (badPattern) return `topics: ${badPattern}`
  const badActions = Array.isArray(actions) ? actionsProblem(actions, known) : 'is no list'
  return badActions && `actions ${badActions}: write for example ["subscribe"]`
}

function actionsProblem(actions: readonly unknown[], known: readonly string[]): string | undefined {
  const unknown = actions.find(action => !known.includes(action as string))
  if (unknown === undefined && !actions.includes(undefined)) return undefined
  return `has ${shown(unknown)}, which is none of ${known.join(', ')}`
}

/** Not as JSON whatever it is: some values have none, and others are long. */
function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80))
  return typeof value === 'object' && value !== null ? 'an object' : String(value).slice(0, 80)
}

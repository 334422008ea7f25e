/**
 * A topic is the address of a message: `channel:NAME`, `user:ID`, `connection:ID` or `all`.
 * NAME and ID are 1–200 bytes of UTF-8 without white space, control characters, `{`, `}` or `*`.
 */
export type Topic = `channel:${string}` | `user:${string}` | `connection:${string}` | 'all'

export type TopicKind = 'channel' | 'user' | 'connection' | 'all'

export const MAX_NAME_BYTES = 200

/** The prefix of every name in Redis. It must not contain the name of a kind: the topic after it could not be found. */
export const PREFIX_PATTERN = '^(?!.*(?:channel|user|connection):)[^\\s{}*?\\[\\]\\\\]{1,64}$'

/** A UTF-16 code unit takes at most this many bytes in UTF-8, so the bytes of a short name need not be counted. */
const MAX_UNIT_BYTES = 3

const KINDS = ['channel', 'user', 'connection']

// Braces would be a Redis Cluster hash tag. A star would turn a name into a pattern. White space would split a command
// in `redis-cli` or a log line. A lone surrogate (Cs) has no UTF-8 form, so two different names would be the same on
// the wire.
const FORBIDDEN = /[\s\p{Cc}\p{Cs}{}*]/u

/** Why `value` is not a topic, as a sentence for the person who wrote it; undefined when it is one. */
export function topicProblem(value: unknown): string | undefined {
  if (typeof value !== 'string') return `a topic is a string such as "channel:orders", not ${kindOf(value)}`
  if (value === 'all') return undefined
  const colon = value.indexOf(':')
  if (!KINDS.includes(value.slice(0, Math.max(colon, 0)))) {
    return `${quote(value)} is no topic: write channel:NAME, user:ID, connection:ID or all`
  }
  const problem = nameProblem(value.slice(colon + 1))
  return problem && `${quote(value)} is no topic: what follows "${value.slice(0, colon)}:" ${problem}`
}

/** Why `name` cannot follow `channel:`, `user:` or `connection:`; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'is empty'
  if (FORBIDDEN.test(name)) return 'has white space, a control character, a lone surrogate, a brace or a star in it'
  if (name.length * MAX_UNIT_BYTES > MAX_NAME_BYTES && utf8Bytes(name) > MAX_NAME_BYTES)
    return `is longer than ${MAX_NAME_BYTES} bytes`
  return undefined
}

export function isTopic(value: unknown): value is Topic {
  return topicProblem(value) === undefined
}

export function topicKind(topic: Topic): TopicKind {
  return topic === 'all' ? 'all' : (topic.slice(0, topic.indexOf(':')) as TopicKind)
}

/** The topics that every connection has without subscribing. */
export function ownTopics(id: string, user: string | null): Topic[] {
  return user === null ? ['all', `connection:${id}`] : ['all', `connection:${id}`, `user:${user}`]
}

/** Whether a connection has `topic` without asking. */
export function isOwnTopic(topic: Topic, { id, user }: { readonly id: string; readonly user: string | null }): boolean {
  return topic === 'all' || topic === `connection:${id}` || (user !== null && topic === `user:${user}`)
}

/**
 * Whether `pattern` covers `topic`. Each `*` in it matches any run of characters, an empty one too.
 * Linear in practice, and never a RegExp: patterns come from tickets that other programs write, and one that backtracks
 * could block the event loop (as in CVE-2024-31228).
 */
export function matchesPattern(pattern: string, topic: string): boolean {
  let p = 0
  let t = 0
  let star = -1
  let resume = 0
  while (t < topic.length) {
    if (pattern[p] === '*') {
      star = p++
      resume = t
    } else if (pattern[p] === topic[t]) {
      p++
      t++
    } else if (star >= 0) {
      p = star + 1
      t = ++resume
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}

/** Why `value` is neither a topic nor a pattern such as `channel:orders.*`; undefined when it is one. */
export function patternProblem(value: unknown): string | undefined {
  if (typeof value === 'string' && value.includes('*')) {
    const literal = value.replaceAll('*', 'x')
    if (isTopic(literal) || /^x+$/.test(literal)) return undefined
    return `${quote(value)} is no pattern of topics: write for example "channel:orders.*"`
  }
  return topicProblem(value)
}

function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`
}

function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
}

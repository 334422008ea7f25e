import { type Topic, topicProblem } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** What every node is asked at the same time. */
export type Question = NodesQuestion | ExplainQuestion

/** How a node is: `samples` of the last minutes too, and the `topics` that had most publications. */
export interface NodesQuestion {
  ask: 'nodes'
  samples?: boolean | undefined
  topics?: number | undefined
}

/** What a node knows of a topic. */
export interface ExplainQuestion {
  ask: 'explain'
  topic: Topic
}

/** Why a node does not answer a question. */
export interface Misquestion {
  reason: 'too_large' | 'json' | 'shape' | 'unknown_key' | 'field' | 'rate'
  message: string
  /** Whoever waits is told. */
  token?: string
}

/** Any program that may publish can ask: nothing that is larger is read. */
export const MAX_QUESTION_BYTES = 1024

export const MAX_BUSIEST = 100

const KEYS = { nodes: ['samples', 'topics'], explain: ['topic'] } as const
const TOKEN = /^[A-Za-z0-9_-]{16,64}$/

const decoder = new TextDecoder('utf-8', { fatal: true })

export function encodeQuestion(question: Question, token: string): string {
  return JSON.stringify({ ...question, token })
}

/** Reads what any program may have written. Never throws. */
export function parseQuestion(bytes: Uint8Array): { question: Question; token: string } | Misquestion {
  if (bytes.length > MAX_QUESTION_BYTES) {
    return { reason: 'too_large', message: `a question has at most ${MAX_QUESTION_BYTES} bytes` }
  }
  let value: unknown
  try {
    value = JSON.parse(decoder.decode(bytes))
  } catch {
    return { reason: 'json', message: 'the question is no JSON' }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { reason: 'shape', message: 'the question is no JSON object such as {"ask":"nodes","token":"…"}' }
  }
  return questionIn(value as Record<string, unknown>)
}

function questionIn(value: Record<string, unknown>): { question: Question; token: string } | Misquestion {
  const { token, ask } = value
  if (typeof token !== 'string' || !TOKEN.test(token)) {
    return { reason: 'field', message: 'token is not 16 to 64 of A-Z a-z 0-9 _ -' }
  }
  if (ask !== 'nodes' && ask !== 'explain') {
    return { reason: 'field', message: 'ask is neither nodes nor explain: update this node first', token }
  }
  const unknown = unknownKey(value, ['ask', 'token', ...KEYS[ask]])
  if (unknown) return { reason: 'unknown_key', message: unknown, token }
  const problem = ask === 'nodes' ? nodesProblem(value) : topicProblem(value.topic)
  if (problem) return { reason: 'field', message: problem, token }
  const { samples, topics, topic } = value
  const question = ask === 'nodes' ? { ask, samples, topics } : { ask, topic }
  return { question: question as Question, token }
}

/** Why nodes cannot be asked this; undefined when they can. */
export function nodesProblem({ samples, topics }: { samples?: unknown; topics?: unknown }): string | undefined {
  if (samples !== undefined && typeof samples !== 'boolean') return 'samples is neither true nor false'
  if (topics === undefined) return undefined
  const isCount = Number.isInteger(topics) && (topics as number) >= 0 && (topics as number) <= MAX_BUSIEST
  return isCount ? undefined : `topics is not a whole number up to ${MAX_BUSIEST}`
}

import type { FastifyRequest } from 'fastify'
import type { Since } from '../delivery/recovery.ts'
import { errors } from '../protocol/errors.ts'
import { decodeEventId } from '../protocol/event-id.ts'
import { parseClientMessage } from '../protocol/messages.ts'
import { type Topic, topicProblem } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/** Stands for a position that nobody knows: the client is told a gap. It is no id. */
export const NO_POSITION = 'none'

/** Where a client says who it is if `authenticate` wants a message: over an event stream it can send none. */
export const FIRST_MESSAGE = 'push-authenticate'

/** What the body of a POST looks like. */
export const BODY = '{"topics":["channel:orders"],"since":{"channel:orders":"<id>"}}'

/** What a client wants. */
interface Asked {
  /** Besides those that it has without asking. */
  topics: Set<Topic>
  /** The positions in the body. */
  since?: Since | undefined
}

/**
 * A GET has everything in its URL, which proxies and servers bound to some thousand characters; a POST has it in its body.
 * Throws a PushError that names what is wrong.
 */
export function askedIn({ method, body, raw }: FastifyRequest): Asked {
  const topics = topicsIn(raw.url ?? '')
  if (method !== 'POST') return { topics }
  if (!isObject(body)) throw new errors.BAD_MESSAGE(`the body must be a JSON object such as ${BODY}`)
  const unknown = unknownKey(body, ['topics', 'since'])
  if (unknown) throw new errors.BAD_MESSAGE(`the body: ${unknown}`)
  const { topics: more = [], since } = body
  if (!Array.isArray(more))
    throw new errors.BAD_MESSAGE('topics in the body must be an array such as ["channel:orders"]')
  for (const topic of more) {
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(`topics in the body: ${problem}`)
    topics.add(topic)
  }
  return { topics, since: since === undefined ? undefined : sinceIn(since) }
}

function sinceIn(since: unknown): Since {
  if (isObject(since) && Object.values(since).every(id => typeof id === 'string')) {
    return new Map(Object.entries(since)) as Since
  }
  throw new errors.BAD_MESSAGE('since in the body must be an object such as {"channel:orders":"<id>"}')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * `topics=a,b`, once or several times. The commas count before anything is decoded, so that `%2C` may be part of a name.
 * Throws a PushError that names what is no topic.
 */
function topicsIn(url: string): Set<Topic> {
  const [, query = ''] = url.split('?', 2)
  const lists = query.split('&').filter(pair => pair.startsWith('topics='))
  const texts = lists.flatMap(pair => pair.slice('topics='.length).split(',')).filter(text => text !== '')
  return new Set(texts.map(toTopic))
}

/** As `new URLSearchParams({ topics: 'channel:a,channel:b' })` writes it: one name, and nobody means it. */
const SEVERAL = /,(channel|user|connection):/

function toTopic(text: string): Topic {
  const topic = decoded(text)
  if (topic === undefined)
    throw new errors.BAD_MESSAGE(`topics in the URL is not percent-encoded UTF-8: ${text.slice(0, 80)}`)
  const problem = topicProblem(topic)
  if (problem) throw new errors.TOPIC(`topics in the URL: ${problem}`)
  if (SEVERAL.test(topic)) {
    throw new errors.TOPIC(
      'topics in the URL: write the commas between topics as they are, not as %2C, or repeat topics=',
    )
  }
  return topic as Topic
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

/**
 * What the client holds of `topics`. Its last event counts more than `since`, which an EventSource sends again and again as it
 * was at the beginning; the header counts more than `lastEventId` in the URL, which is for clients that cannot send headers.
 */
export function heldIn(request: FastifyRequest, since: Since, topics: Iterable<Topic>): Since {
  const { lastEventId } = request.query as { lastEventId?: unknown }
  const id = request.headers['last-event-id'] ?? lastEventId
  if (id === undefined || id === '') return since
  const held = decodeEventId(String(id))
  if (held.isWhole) return held.since
  // Otherwise the client would not notice what it missed of the topics that are not named.
  return new Map([...[...topics].map(topic => [topic, NO_POSITION] as const), ...held.since])
}

/** The payload of the `authenticate` message in the header. Throws a PushError if there is none. */
export function firstMessageOf(request: FastifyRequest): unknown {
  const header = request.headers[FIRST_MESSAGE]
  const text = typeof header === 'string' ? decoded(header) : undefined
  const message = text === undefined ? undefined : parseClientMessage(text)
  if (message && 'type' in message && message.type === 'authenticate') return message.payload
  throw new errors.UNAUTHENTICATED(
    `say who you are in the header ${FIRST_MESSAGE}: {"type":"authenticate","payload":{…}}, percent-encoded`,
  )
}

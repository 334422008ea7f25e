import type { TObject, TSchema } from 'typebox'
import type { PushBridge } from '../bridge.ts'
import type { MembersQuery } from '../node/presence/reader.ts'
import { TICKET_TTL, ticketHolder } from '../node/tickets.ts'
import type { Authentication } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { encodeHistory, type HistoryReader } from '../publish/history-page.ts'
import type { Publisher } from '../publish/publish.ts'
import type { KeyRights } from './api-keys.ts'
import * as schemas from './api-schemas.ts'

/** What a route of the push API works with. */
export interface ApiCall {
  push: PushBridge
  /** Publishes where the caller may. */
  publisher: Publisher
  histories: HistoryReader
  rights: KeyRights
  body: unknown
  /** Only parameters that the route names, each once. */
  query: Readonly<Record<string, string>>
}

export interface ApiRoute {
  method: 'GET' | 'POST'
  /** What follows `api.path`. */
  path: string
  summary: string
  /** What a key needs for it. */
  needs: string
  query?: TObject
  body?: TSchema
  answer: TSchema
  /** An object, or JSON text. */
  run(call: ApiCall): Promise<object | string>
}

/** Every route of the push API. Keys, parsing, errors, 404, 405 and docs/openapi.json follow from this table. */
export const API_ROUTES: readonly ApiRoute[] = [
  {
    method: 'POST',
    path: '',
    summary: 'publish',
    needs: '`publish` on each topic',
    body: schemas.PushBody,
    answer: schemas.PushAnswer,
    run: ({ publisher, body }) => publish(publisher, body),
  },
  {
    method: 'POST',
    path: '/close',
    summary: 'close the connections of a user, or one connection, on any node',
    needs: '`close` on the target',
    body: schemas.CloseBody,
    answer: schemas.ResultSchema,
    async run({ push, rights, body }) {
      const { target, code, reason } = fieldsOf(body, schemas.CloseBody)
      rights.check('close', target)
      return push.close(target as string, code as number, reason as string)
    },
  },
  {
    method: 'POST',
    path: '/revoke',
    summary: 'close all connections of a user and keep out the tickets and identities that it had until now',
    needs: '`revoke` on `user:ID`',
    body: schemas.RevokeBody,
    answer: schemas.ResultSchema,
    async run({ push, rights, body }) {
      const { target } = fieldsOf(body, schemas.RevokeBody)
      rights.check('revoke', target)
      return push.revoke(target as string)
    },
  },
  {
    method: 'POST',
    path: '/subscribe',
    summary: 'subscribe present connections to a channel, without asking authorize',
    needs: '`subscribe` on the target and on the topic',
    body: schemas.SubscribeBody,
    answer: schemas.ResultSchema,
    run: call => call.push.subscribe(...moveOf(call)),
  },
  {
    method: 'POST',
    path: '/unsubscribe',
    summary: 'unsubscribe present connections from a channel',
    needs: '`subscribe` on the target and on the topic',
    body: schemas.SubscribeBody,
    answer: schemas.ResultSchema,
    run: call => call.push.unsubscribe(...moveOf(call)),
  },
  {
    method: 'POST',
    path: '/tickets',
    summary: 'make a ticket, a single-use secret with which a page connects',
    needs: '`ticket` on `user:ID`, `subscribe` on what it joins, and what it allows',
    body: schemas.TicketBody,
    answer: schemas.TicketAnswer,
    run: makeTicket,
  },
  {
    method: 'GET',
    path: '/presence',
    summary: 'who is on a topic, in pages',
    needs: '`presence` on the topic',
    query: schemas.PresenceQuery,
    answer: schemas.MembersAnswer,
    async run({ push, rights, query: { topic, ...page } }) {
      rights.check('presence', topic)
      return push.presence(topic!, pageOf(page))
    },
  },
  {
    method: 'GET',
    path: '/users',
    summary: 'who is online, in pages',
    needs: '`presence` on `all`',
    query: schemas.PageQuery,
    answer: schemas.MembersAnswer,
    async run({ push, rights, query }) {
      rights.check('presence', 'all')
      return push.users(pageOf(query))
    },
  },
  {
    method: 'GET',
    path: '/user',
    summary: 'whether a user is online, and on which connections',
    needs: '`presence` on `user:ID`',
    query: schemas.UserQuery,
    answer: schemas.UserAnswer,
    async run({ push, rights, query: { user } }) {
      rights.check('presence', `user:${user ?? ''}`)
      return push.user(user!)
    },
  },
  {
    method: 'GET',
    path: '/history',
    summary: 'what is kept of a recorded topic, in pages',
    needs: '`history` on the topic',
    query: schemas.HistoryParameters,
    answer: schemas.HistoryAnswer,
    async run({ histories, rights, query: { topic, since, last, limit } }) {
      rights.check('history', topic)
      return encodeHistory(await histories.read(topic, { since, last: numberOf(last), limit: numberOf(limit) }))
    },
  },
  {
    method: 'GET',
    path: '/status',
    summary: 'the state of the node that answers',
    needs: '`status`',
    answer: schemas.StatusAnswer,
    async run({ push, rights }) {
      rights.checkAnywhere('status')
      return push.status()
    },
  },
  {
    method: 'GET',
    path: '/nodes',
    summary: 'the state of every node',
    needs: '`status`',
    query: schemas.NodesParameters,
    answer: schemas.NodesAnswer,
    async run({ push, rights, query: { samples, topics } }) {
      rights.checkAnywhere('status')
      return push.nodes({ samples: flagOf('samples', samples), topics: numberOf(topics) })
    },
  },
  {
    method: 'GET',
    path: '/explain',
    summary: 'why something did or did not arrive on a topic',
    needs: '`explain` on the topic',
    query: schemas.ExplainParameters,
    answer: schemas.ExplainAnswer,
    async run({ push, rights, query: { topic } }) {
      rights.check('explain', topic)
      return push.explain(topic!)
    },
  },
]

function flagOf(name: string, text: string | undefined): boolean | undefined {
  if (text === undefined || text === 'true' || text === 'false') return text === undefined ? undefined : text === 'true'
  throw new errors.FIELD(`in the URL: ${name} is neither true nor false`)
}

/** What is no number is refused by the call, as any other wrong value. */
function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text || Number.NaN)
}

function pageOf({ cursor, count }: Readonly<Record<string, string>>): MembersQuery {
  return { cursor, count: numberOf(count) }
}

async function publish(publisher: Publisher, body: unknown): Promise<object> {
  if (Array.isArray(body)) return publisher.publishAll(body)
  if (typeof body !== 'object' || body === null) {
    throw new errors.JSON('the body is not a JSON object such as {"to":"user:42","type":"notice","payload":{}}')
  }
  const { to, ...message } = body as { to?: unknown }
  if (to === undefined) throw new errors.TOPIC('to is missing: name a topic such as "user:42" or a list of them')
  if (Array.isArray(to)) return publisher.publishAll([body])
  return publisher.publish(to as string, message as never)
}

function moveOf({ rights, body }: ApiCall): [target: string, topic: string] {
  const { target, topic } = fieldsOf(body, schemas.SubscribeBody)
  rights.check('subscribe', target)
  rights.check('subscribe', topic)
  return [target as string, topic as string]
}

async function makeTicket({ push, rights, body }: ApiCall): Promise<object> {
  const { ttl = TICKET_TTL, ...given } = fieldsOf(body, schemas.TicketBody)
  const identity = given as Authentication
  rights.checkTicket(ticketHolder(identity))
  return { ticket: await push.ticket(identity, ttl as number), ttl }
}

/** The keys of a body, whose values the call checks. Throws unless it is an object that has no others. */
function fieldsOf<S extends TObject>(body: unknown, schema: S): { [K in keyof S['properties']]?: unknown } {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    const { examples } = schema as { examples?: unknown[] }
    throw new errors.JSON(`the body is not a JSON object such as ${JSON.stringify(examples?.[0])}`)
  }
  const unknown = unknownKey(body, Object.keys(schema.properties))
  if (unknown) throw new errors.UNKNOWN_KEY(unknown)
  return body as { [K in keyof S['properties']]?: unknown }
}

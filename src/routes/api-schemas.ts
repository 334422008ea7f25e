import { type TSchema, Type } from 'typebox'
import { STEPS } from '../broker/trace-steps.ts'
import { ExplanationSchema as ExplainAnswer, NodesSchema as NodesAnswer } from '../node/monitoring/report-schemas.ts'
import { MAX_TICKET_TTL, TICKET_TTL } from '../node/tickets.ts'
import { MAX_BUSIEST } from '../protocol/question.ts'
import { ACTIONS } from '../protocol/rights.ts'
import { MAX_BATCH, PublishRequestSchema as PublicationBody } from '../publish/request.ts'

/** The bodies and answers of the push API, for its document and its tests. Calls check what they are given by themselves. */

const closed = { additionalProperties: false }

const count = (description: string) => Type.Integer({ minimum: 0, description })

const Target = Type.String({ description: 'user:ID or connection:ID' })

export { ExplainAnswer, NodesAnswer, PublicationBody }

export const PushBody = Type.Union([
  PublicationBody,
  Type.Array(PublicationBody, { maxItems: MAX_BATCH, description: `up to ${MAX_BATCH} publications` }),
])

export const CloseBody = Type.Object(
  {
    target: Target,
    code: Type.Optional(
      Type.Integer({ default: 1000, description: '1000, 1001, 1008, 1009, 1011, 1012, 1013 or 3000 to 4999' }),
    ),
    reason: Type.Optional(Type.String({ default: '', description: 'up to 123 bytes' })),
  },
  { ...closed, examples: [{ target: 'user:42', code: 4403, reason: 'your account was locked' }] },
)

export const RevokeBody = Type.Object(
  { target: Type.String({ description: 'user:ID' }) },
  { ...closed, examples: [{ target: 'user:42' }] },
)

export const SubscribeBody = Type.Object(
  { target: Target, topic: Type.String({ description: 'channel:NAME' }) },
  { ...closed, examples: [{ target: 'user:42', topic: 'channel:vip' }] },
)

const Right = Type.Union([
  Type.String({ description: 'a topic or pattern that the connection may subscribe to' }),
  Type.Object(
    {
      topics: Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })]),
      actions: Type.Array(Type.Enum([...ACTIONS])),
      info: Type.Optional(
        Type.Unknown({ description: 'what others may see of the user on these topics, in place of info' }),
      ),
    },
    closed,
  ),
])

const nullable = (schema: TSchema) => Type.Optional(Type.Union([schema, Type.Null()]))

export const TicketBody = Type.Object(
  {
    user: nullable(
      Type.Union([Type.String(), Type.Integer()], { description: 'without it the connection is anonymous' }),
    ),
    join: nullable(Type.Array(Type.String(), { description: 'channel: and user: topics, subscribed from the start' })),
    allow: nullable(Type.Array(Right, { description: 'what it may do with which topics' })),
    data: Type.Optional(Type.Unknown({ description: 'connection.data in handlers and hooks' })),
    info: Type.Optional(Type.Unknown({ description: 'what others may see of the user; at most 1,024 bytes' })),
    expires: nullable(
      Type.Number({ description: 'when the connection is closed with 4502, in milliseconds since 1970' }),
    ),
    issuedAt: nullable(
      Type.Number({ description: 'when the user proved who it is, in milliseconds since 1970; default: now' }),
    ),
    ttl: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_TICKET_TTL,
        default: TICKET_TTL,
        description: 'seconds for which the ticket is good',
      }),
    ),
  },
  { ...closed, examples: [{ user: '42', allow: ['channel:orders.*'] }] },
)

export const ResultSchema = Type.Object(
  {
    topic: Type.String(),
    nodes: count('how many nodes were listening, a hint'),
    delivered: Type.Optional(count('connections for which it was queued, or that obeyed')),
    skipped: Type.Optional(count('connections on the topic that were left out')),
    acknowledged: Type.Optional(count('connections whose client has handled it')),
    reasons: Type.Optional(Type.Record(Type.String(), count('how many were skipped for this reason'))),
    complete: Type.Optional(Type.Boolean({ description: 'false when a node had not answered in time' })),
    id: Type.Optional(Type.String({ description: 'position on a recorded topic' })),
    seq: Type.Optional(count('number on a recorded topic')),
    duplicate: Type.Optional(Type.Boolean({ description: 'it had been recorded before: nothing was published' })),
    rejected: Type.Optional(
      Type.Array(Type.Object({ node: Type.String(), reason: Type.String(), message: Type.String() }, closed)),
    ),
    trace: Type.Optional(
      Type.Array(
        Type.Object(
          {
            node: Type.String({ description: 'who says so' }),
            at: Type.Number({ description: 'by its clock, in milliseconds since 1970' }),
            what: Type.Enum([...STEPS]),
            connections: Type.Optional(count('of how many connections that is said')),
            reason: Type.Optional(Type.String({ description: 'why they were skipped, or why it was rejected' })),
            nodes: Type.Optional(count('how many nodes were listening when it was taken')),
          },
          closed,
        ),
        { description: 'its whole way, by time' },
      ),
    ),
  },
  closed,
)

const code = Type.String({ pattern: '^[A-Z][A-Z0-9_]*$', description: 'stable: check this, not the message' })

export const FailureSchema = Type.Object(
  { topic: Type.String(), error: Type.Object({ code, message: Type.String() }, closed) },
  closed,
)

export const PushAnswer = Type.Union([
  ResultSchema,
  Type.Array(Type.Union([ResultSchema, FailureSchema]), { description: 'in the order of what was sent' }),
])

const page = {
  cursor: Type.Optional(Type.String({ pattern: '^[0-9]{1,20}$', description: 'that of the page before' })),
  count: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'about how many users' })),
}

const Topic = Type.String({ description: 'channel:NAME, user:ID or all' })

export const PageQuery = Type.Object(page, closed)

export const PresenceQuery = Type.Object({ topic: Topic, ...page }, closed)

export const UserQuery = Type.Object({ user: Type.String({ description: 'ID of a user' }) }, closed)

export const HistoryParameters = Type.Object(
  {
    topic: Topic,
    since: Type.Optional(Type.String({ description: 'an id: what was recorded after it' })),
    last: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100,
        description: 'the newest messages, if there is no since or it is lost',
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 100, description: 'messages of a page' })),
  },
  closed,
)

export const NodesParameters = Type.Object(
  {
    samples: Type.Optional(Type.Boolean({ description: 'numbers of the last ten minutes too' })),
    topics: Type.Optional(
      Type.Integer({ minimum: 0, maximum: MAX_BUSIEST, description: 'so many topics with most publications' }),
    ),
  },
  closed,
)

export const ExplainParameters = Type.Object(
  { topic: Type.String({ description: 'channel:NAME, user:ID, connection:ID or all' }) },
  closed,
)

const since = Type.Integer({ description: 'milliseconds since 1970' })

const MemberSchema = Type.Object(
  { user: Type.String(), connections: count('on all nodes'), since, info: Type.Optional(Type.Unknown()) },
  closed,
)

export const MembersAnswer = Type.Object(
  {
    topic: Type.String(),
    count: count('users on the topic'),
    anonymous: count('connections without a user'),
    members: Type.Array(MemberSchema),
    cursor: Type.Optional(Type.String({ description: 'for the next page; left out at the end' })),
  },
  closed,
)

export const UserAnswer = Type.Object(
  {
    user: Type.String(),
    online: Type.Boolean(),
    count: count('connections on all nodes'),
    connections: Type.Array(Type.Object({ id: Type.String(), node: Type.String(), since }, closed)),
    since: Type.Optional(since),
    info: Type.Optional(Type.Unknown()),
  },
  closed,
)

export const HistoryAnswer = Type.Object(
  {
    topic: Type.String(),
    id: Type.String({ description: 'the head of the topic' }),
    seq: count('its number'),
    messages: Type.Array(
      Type.Object(
        {
          id: Type.String(),
          seq: count('number on the topic'),
          type: Type.String(),
          payload: Type.Unknown({ description: 'as the publisher wrote it' }),
          from: Type.Optional(Type.Object({ user: Type.Union([Type.String(), Type.Null()]) }, closed)),
          except: Type.Optional(Type.Array(Type.String())),
        },
        closed,
      ),
    ),
    complete: Type.Boolean({ description: 'whether they reach the head' }),
    next: Type.Optional(Type.String({ description: 'the since of the next page' })),
    gap: Type.Optional(Type.String({ description: 'why messages are missing before these' })),
  },
  closed,
)

export const TicketAnswer = Type.Object(
  {
    ticket: Type.String({ pattern: '^[0-9a-f]{48}$', description: 'single-use: the page connects with ?ticket=' }),
    ttl: Type.Integer({ minimum: 1, maximum: MAX_TICKET_TTL, description: 'seconds for which it is good' }),
  },
  closed,
)

export const StatusAnswer = Type.Object(
  {
    node: Type.String({ description: 'new at every start' }),
    broker: Type.Enum(['memory', 'redis']),
    connected: Type.Boolean({ description: 'whether publications can be sent and received' }),
    problem: Type.Optional(Type.String({ description: 'why not, or which right is missing' })),
    nodes: Type.Optional(count('how many nodes are alive; left out while that cannot be asked')),
    draining: Type.Boolean(),
    connections: count('connections of this node'),
    topics: count('topics of this node'),
    fillingTopics: count('topics whose messages arrive late'),
    refusedTopics: count('topics that Redis refuses'),
    lag: Type.Number({ minimum: 0, description: 'how late publications reach this node, in milliseconds' }),
    stalledConnections: count('connections whose sockets are full'),
    heldBytes: count('bytes queued for them'),
    pendingUpgrades: count('upgrades that are not finished'),
    addresses: count('addresses that are limited, and have connections or had upgrades lately'),
    ingress: Type.Array(
      Type.Object(
        {
          name: Type.String({ description: 'name of the road' }),
          lag: Type.Optional(count('messages that wait in the queue; left out while that is not known')),
          problem: Type.Optional(Type.String({ description: 'why nothing comes in' })),
        },
        closed,
      ),
      { description: 'the queues from which publications come in' },
    ),
    limits: Type.Record(Type.String(), Type.Number(), { description: 'the option limits with its defaults' }),
    metrics: Type.Record(Type.String(), Type.Number()),
  },
  closed,
)

export const ErrorSchema = Type.Object(
  {
    statusCode: Type.Integer({ minimum: 400, maximum: 599 }),
    code,
    error: Type.String({ description: 'the name of the status' }),
    message: Type.String({ description: 'what is wrong and what to do' }),
  },
  closed,
)

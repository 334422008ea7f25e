import { type Static, type TProperties, Type } from 'typebox'
import { MAX_REFUSALS } from './refusal-notes.ts'

/**
 * What nodes say of themselves and of a topic. It comes from other programs, so it is checked when it is read: what a
 * later version says besides is left out.
 */

const closed = { additionalProperties: false }

const object = <P extends TProperties>(properties: P, description?: string) =>
  Type.Object(properties, { ...closed, ...(description !== undefined && { description }) })

const number = (description: string) => Type.Number({ description })
const count = (description: string) => Type.Integer({ minimum: 0, description })
const counts = (description: string) => Type.Record(Type.String(), Type.Number(), { description })
const time = (description: string) => number(`${description}, in milliseconds since 1970`)
const percentiles = (description: string) =>
  object({ p50: Type.Number({ minimum: 0 }), p99: Type.Number({ minimum: 0 }) }, description)

/** Others write these texts too: whoever shows them must not be flooded. */
const text = (description: string, maxLength = 1000) => Type.String({ maxLength, description })

/** What several masters of a Cluster say together may be long. */
export const MAX_PROBLEM = 10_000

const origin = {
  node: text('new at every start'),
  registration: text('the option name'),
}

export const SampleSchema = object({
  at: time('when it was taken'),
  connections: count('open connections'),
  received: count('publications received since the sample before'),
  delivered: count('messages queued for connections since then'),
  refused: count('upgrades, messages of clients, API calls and envelopes refused since then'),
  writtenBytes: count('bytes written to sockets since then'),
  lag: number('how late publications came, in milliseconds'),
  loopDelay: number('the 99th percentile of the delay of the event loop since then, in milliseconds'),
  rss: count('memory of the process, in bytes'),
})

export type Sample = Static<typeof SampleSchema>

export const BusySchema = object({
  topic: text('a topic'),
  connections: count('connections of this node that have it'),
  publications: count('about how many publications of the last minute'),
})

export type BusyTopic = Static<typeof BusySchema>

export const MAX_SAMPLES = 120

export const NodeReportSchema = object({
  ...origin,
  version: text('of the package'),
  startedAt: time('when the process started'),
  now: time('the clock of the node'),
  draining: Type.Boolean(),
  connected: Type.Boolean({ description: 'whether publications can be sent and received' }),
  problem: Type.Optional(text('why not, or which right is missing', MAX_PROBLEM)),
  connections: count('open connections'),
  topics: count('topics that a connection has'),
  pendingUpgrades: count('upgrades that are not finished'),
  stalledConnections: count('connections whose sockets are full'),
  heldBytes: count('bytes queued for them'),
  lag: number('how late publications reach the node, in milliseconds'),
  memory: object({ rss: count('of the process, in bytes'), heap: count('used by JavaScript, in bytes') }),
  cpu: number('seconds of CPU that the process has used'),
  loopDelay: percentiles('delay of the event loop in the last ten seconds or so, in milliseconds'),
  latency: Type.Optional(percentiles('from received to written in the last ten seconds or so, in milliseconds')),
  counters: counts('everything that is counted'),
  samples: Type.Optional(
    Type.Array(SampleSchema, { maxItems: MAX_SAMPLES, description: 'one for each 5 s of the last ten minutes' }),
  ),
  busiest: Type.Optional(Type.Array(BusySchema, { maxItems: 100, description: 'topics with most publications' })),
})

export type NodeReport = Static<typeof NodeReportSchema>

export const MAX_MEMBERS = 50
export const MAX_PUBLICATIONS = 20

export const MemberSchema = object({
  id: text('of the connection'),
  user: Type.Union([text('whose it is'), Type.Null()]),
  transport: Type.Optional(Type.Literal('sse', { description: 'its messages go out over an event stream' })),
  since: time('since when it has the topic'),
  connected: time('since when the connection is open'),
  queuedBytes: count('bytes that wait for it'),
  stalled: Type.Boolean({ description: 'whether its socket is full' }),
  lastSeen: time('its last sign of life, about'),
})

export const RecentSchema = object({
  at: time('when it came to the node'),
  type: Type.Optional(text('its type')),
  id: Type.Optional(text('its position, if it was recorded')),
  delivered: count('connections for which it was queued'),
  skipped: counts('connections that were skipped, by reason'),
  rejected: Type.Optional(text('why nobody got it')),
})

export type RecentPublication = Static<typeof RecentSchema>

export const RefusalSchema = object({
  at: time('the last time'),
  user: Type.Union([text('who asked for the topic'), Type.Null()]),
  connection: Type.Optional(text('the connection that asked for it; left out if it was not open yet')),
  code: text('of the error that the client got'),
  message: text('why it was refused'),
  times: count('how often lately'),
})

export type TopicRefusal = Static<typeof RefusalSchema>

export const TopicReportSchema = object({
  ...origin,
  now: time('the clock of the node'),
  draining: Type.Boolean(),
  connected: Type.Boolean({ description: 'whether publications can be sent and received' }),
  problem: Type.Optional(text('why not, or which right is missing', MAX_PROBLEM)),
  cutOffSince: Type.Optional(time('since when it is not connected')),
  lag: number('how late publications reach the node, in milliseconds'),
  recorded: Type.Optional(Type.Boolean({ description: 'whether a rule of this node says so' })),
  connections: count('how many have the topic'),
  members: Type.Array(MemberSchema, { maxItems: MAX_MEMBERS }),
  refused: Type.Optional(Type.Boolean({ description: 'the broker refuses the topic to this node' })),
  filling: Type.Optional(Type.Boolean({ description: 'the node reads what it missed: messages come late' })),
  publications: Type.Array(RecentSchema, { maxItems: MAX_PUBLICATIONS, description: 'the newest first' }),
  dropped: counts('what limits did to connections of the topic lately, by reason'),
  refusals: Type.Optional(
    Type.Array(RefusalSchema, {
      maxItems: MAX_REFUSALS,
      description: 'who asked for the topic lately and did not get it',
    }),
  ),
})

export type TopicReport = Static<typeof TopicReportSchema>

const found = {
  expected: Type.Optional(count('how many nodes there are; left out while that cannot be asked')),
  complete: Type.Boolean({ description: 'false when a node did not answer in time' }),
  problem: Type.Optional(text('why other nodes could not be asked', MAX_PROBLEM)),
}

export const NodesSchema = object({ nodes: Type.Array(NodeReportSchema), ...found })

export type Nodes = Static<typeof NodesSchema>

export const ExplanationSchema = object({
  topic: Type.String(),
  now: time('the clock of whoever answers'),
  findings: Type.Array(Type.String(), { description: 'what to conclude, most important first' }),
  nodes: Type.Array(TopicReportSchema),
  ...found,
  history: Type.Union([
    object({
      head: Type.Optional(object({ id: Type.String(), seq: count('its number') })),
      size: count('how many publications are kept'),
    }),
    Type.Null({ description: 'the topic is not recorded, or its history cannot be read' }),
  ]),
  rejected: Type.Array(
    object({
      at: time('when it came'),
      node: Type.String(),
      reason: Type.String(),
      message: Type.String(),
    }),
    { description: 'the last envelopes for the topic that could not be used' },
  ),
})

export type Explanation = Static<typeof ExplanationSchema>

import type { CounterName } from '../../broker/metrics.ts'
import type { Measured } from './measured.ts'

export interface CounterSeries {
  help: string
  /** What the reason of this counter is called; without one it has none. */
  label?: string
  /** Reasons that are there from the start, with 0, so that the first increase is seen as one. */
  known?: readonly string[]
}

/** Every counter of a node as Prometheus sees it. */
export const COUNTERS: Readonly<Record<CounterName, CounterSeries>> = {
  connections_opened_total: { help: 'Connections accepted.' },
  connections_closed_total: {
    help: 'Connections closed, by close code.',
    label: 'code',
    known: ['1000', '1001', '1005', '1006', '1012', '4502', '4503', '4504'],
  },
  upgrades_refused_total: { help: 'Upgrades refused, by error code.', label: 'reason' },
  requests_refused_total: {
    help: 'Requests of the whole server that Node refused before any route heard of them, by what is wrong with them.',
    label: 'reason',
    known: ['timeout', 'too_large', 'malformed'],
  },
  tickets_ended_total: { help: 'Tickets that ended unspent because their user got too many.' },
  messages_received_total: { help: 'Messages of clients, text and binary.' },
  messages_received_bytes_total: { help: 'Bytes of the messages of clients.' },
  messages_refused_total: {
    help: 'Messages of clients that were refused, by error code or by what ended the connection.',
    label: 'reason',
    known: ['rate', 'too_large', 'protocol', 'closing', 'topics', 'pending', 'publications'],
  },
  late_results_total: { help: 'Handlers and authorize calls that ended after the client was told PUSH_ERR_TIMEOUT.' },
  client_publications_total: { help: 'Publications of clients that the broker has taken.' },
  api_refused_total: { help: 'Calls of the HTTP push API that were refused, by error code.', label: 'reason' },
  publications_sent_total: {
    help: 'Publications that this node handed to the broker, by who published.',
    label: 'source',
    known: ['app', 'http', 'client', 'command', 'ingress'],
  },
  publications_failed_total: { help: 'Publications that were refused or failed, by error code.', label: 'reason' },
  publications_received_total: { help: 'Envelopes that the broker delivered to this node.' },
  publications_received_bytes_total: { help: 'Bytes of the envelopes that the broker delivered to this node.' },
  publications_rejected_total: {
    help: 'Envelopes that this node could not use, by what is wrong with them.',
    label: 'reason',
    known: [
      'too_large',
      'encoding',
      'json',
      'shape',
      'version',
      'unknown_key',
      'type',
      'reserved_type',
      'field',
      'schema',
      'classic',
    ],
  },
  publications_filled_total: { help: 'Publications read from a history because the link did not bring them.' },
  questions_answered_total: { help: 'Questions about nodes and topics that this node answered.' },
  questions_refused_total: {
    help: 'Questions about nodes and topics that this node did not answer, by what is wrong with them.',
    label: 'reason',
    known: ['too_large', 'json', 'shape', 'unknown_key', 'field', 'rate'],
  },
  deliveries_total: { help: 'Messages queued, once for each connection.' },
  deliveries_skipped_total: {
    help: 'Messages not queued for a connection of their topic.',
    label: 'reason',
    known: ['except', 'closing', 'slow', 'overload'],
  },
  messages_dropped_total: {
    help: 'Messages that were queued, or should have been, and were never written.',
    label: 'reason',
    known: ['slow_consumer', 'overload', 'closed'],
  },
  messages_recoded_total: {
    help: 'Messages that were written anew for connections with another codec than JSON.',
    label: 'codec',
  },
  publications_unwritable_total: {
    help: 'Publications that a codec cannot write: its connections were told of a gap.',
    label: 'codec',
  },
  written_bytes_total: { help: 'Bytes of frames written to sockets, before compression and TLS.' },
  gaps_total: {
    help: 'Gaps that connections were told of.',
    label: 'reason',
    known: [
      'broker_link',
      'broker_away',
      'slow_consumer',
      'overload',
      'rejected',
      'history_trimmed',
      'history_expired',
      'history_replaced',
      'unknown_id',
    ],
  },
  recoveries_total: {
    help: 'Topics for which a client said what it holds, by how that ended.',
    label: 'result',
    known: ['replayed', 'up_to_date'],
  },
  events_sent_total: { help: 'Events that Redis or the backend has confirmed.', label: 'way' },
  events_lost_total: {
    help: 'Events that no backend gets.',
    label: 'reason',
    known: ['full', 'closed', 'refused'],
  },
  backend_calls_total: { help: 'Calls to the web backend.', label: 'kind' },
  backend_failures_total: {
    help: 'Calls to the web backend without a usable answer.',
    label: 'reason',
    known: ['timeout', 'network', 'status', 'answer', 'circuit', 'busy'],
  },
  ingress_taken_total: { help: 'Messages taken from queues, once for each try.', label: 'ingress' },
  ingress_published_total: { help: 'Messages of queues that were published.', label: 'ingress' },
  ingress_refused_total: { help: 'Messages of queues that will never be right.', label: 'ingress' },
  ingress_failed_total: { help: 'Messages of queues that are tried again later, once for each try.', label: 'ingress' },
  ingress_dead_letters_total: { help: 'Messages of queues put among the dead letters.', label: 'ingress' },
  ingress_lost_total: { help: 'Messages removed from their queue before they were published.', label: 'ingress' },
}

type Values = Readonly<Record<string, number>>

export interface GaugeSeries {
  help: string
  label?: string
  /** A number, or one for each value of `label`; undefined if there is none now. */
  read(source: Measured): number | Values | undefined
  /** How two registrations with the same name are one: most are added up. */
  merge?: (a: number, b: number) => number
}

const least = Math.min
const most = Math.max

/** Counted when somebody asks: a node without streams need not look at each connection. */
function streamsIn(registry: Measured['registry']): number {
  let streams = 0
  for (const { transport } of registry.values()) if (transport === 'sse') streams++
  return streams
}

/** The state of a node, read when it is asked for. */
export const GAUGES: Readonly<Record<string, GaugeSeries>> = {
  connections: { help: 'Open connections.', read: ({ registry }) => registry.size },
  connections_limit: {
    help: 'Connections that are accepted at most: limits.connections.',
    read: ({ options }) => options.limits.connections,
  },
  sse_connections: {
    help: 'Open connections that are event streams; absent without the option sse.',
    read: ({ options, registry }) => (options.sse ? streamsIn(registry) : undefined),
  },
  topics: { help: 'Topics that a connection of this node has.', read: ({ registry }) => registry.topicCount },
  nodes: { help: 'Nodes that are running; absent while Redis does not say.', read: ({ nodes }) => nodes, merge: most },
  draining: { help: '1 while this node is draining.', read: ({ isDraining }) => Number(isDraining), merge: most },
  connected: {
    help: '1 while publications can be sent and received.',
    read: ({ broker }) => Number(broker.connected),
    merge: least,
  },
  links: {
    help: 'Links to servers of Redis.',
    label: 'state',
    read: ({ broker: { links } }) => ({ up: links.up, down: links.total - links.up }),
  },
  link_lag_seconds: {
    help: 'How late messages arrive over the slowest link.',
    read: ({ broker }) => broker.lag / 1000,
    merge: most,
  },
  master_lag_seconds: {
    help: 'How late messages arrive over the link to each master of a Cluster; absent without one.',
    label: 'master',
    read: ({ broker: { lags } }) =>
      lags && Object.fromEntries(Object.entries(lags).map(([master, lag]) => [master, lag / 1000])),
    // Registrations may share the links.
    merge: most,
  },
  filling_topics: { help: 'Topics being read from their history.', read: ({ broker }) => broker.filling },
  refused_topics: { help: 'Topics that Redis refuses to this node.', read: ({ broker }) => broker.refused },
  backlog_bytes: {
    help: 'Bytes that were read from Redis and wait to be delivered.',
    read: ({ broker }) => broker.backlog,
  },
  queued_connections: {
    help: 'Connections that are about to be written to.',
    read: ({ waiting }) => waiting.connections,
  },
  stalled_connections: {
    help: 'Connections whose sockets accept no more, with data waiting.',
    read: ({ waiting }) => waiting.stalled,
  },
  held_bytes: { help: 'Memory of data that waits for full sockets.', read: ({ waiting }) => waiting.bytes },
  held_bytes_limit: {
    help: 'Memory that may wait for full sockets: limits.nodeBuffer.',
    read: ({ options }) => options.limits.nodeBuffer,
  },
  presence_topics: {
    help: 'Topics with presence on which somebody of this node is.',
    read: ({ presence }) => presence?.counts.topics,
  },
  presence_members: {
    help: 'Users on topics with presence, as seen by this node; once for each topic.',
    read: ({ presence }) => presence?.counts.members,
  },
  presence_followed_topics: {
    help: 'Topics whose presence clients of this node follow.',
    read: ({ presence }) => presence?.counts.followed,
  },
  ingress_lag: {
    help: 'Messages that wait in queues from which publications come in.',
    label: 'ingress',
    read: ({ ingress }) => ingress.lag,
    // Every registration sees the same queue.
    merge: most,
  },
  events_waiting: { help: 'Events that have not arrived yet.', label: 'way', read: ({ events }) => events?.waiting },
}

/** Seconds: from half a millisecond, which an idle node takes, to what nobody would wait for. */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export const HISTOGRAMS = {
  publish_to_write_seconds: {
    help: 'From publishing to writing to the socket, for the oldest publication of each round of writes.',
    buckets: SECONDS,
  },
  flush_connections: {
    help: 'Connections that a round of writes wrote to.',
    buckets: [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536],
  },
  flush_bytes: {
    help: 'Bytes that a round of writes wrote.',
    buckets: [256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864],
  },
} as const

/** Of the whole process, so it does not say of which registration. */
export const LOOP_DELAY = {
  name: 'event_loop_delay_seconds',
  help: 'How late timers of this process ran, looked at ten times a second.',
  buckets: SECONDS.slice(1),
} as const

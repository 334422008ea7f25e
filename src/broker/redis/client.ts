import { Redis, type RedisOptions } from 'ioredis'
import { errors } from '../../protocol/errors.ts'
import { toIoredis, urlProblem } from './url.ts'

/** What the application may give: a URL, ioredis options or a client, which is duplicated and never used itself. */
export type RedisSource = string | RedisOptions | Redis

const RETRY_FIRST = 50
const RETRY_MAX = 1000

/**
 * Exponential with jitter: a restarted Redis is found within about a second, and not by all nodes at the same moment.
 */
function retryDelay(attempt: number): number {
  const ceiling = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** Math.min(attempt - 1, 10))
  return ceiling / 2 + Math.random() * (ceiling / 2)
}

type OurOptions = RedisOptions & { replyMapping: 'legacy' }

const OURS: OurOptions = {
  lazyConnect: true,
  // The same form of replies with RESP2 and RESP3.
  replyMapping: 'legacy',
  // CommandLink handles deadlines and retries: ioredis might execute a publish twice or hold it for a minute.
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  // An answer may come after seconds of messages.
  commandTimeout: undefined,
  // It would prefix keys but not channels.
  keyPrefix: '',
  connectTimeout: 3000,
  // A frozen Redis never answers a FIN: without this a lost link would stay "closing".
  disconnectTimeout: 100,
  retryStrategy: retryDelay,
  // A demoted master refuses writes on a connection that otherwise works.
  reconnectOnError: error => error.message.startsWith('READONLY'),
}

export function createClient(source: RedisSource, connectionName: string): Redis {
  const options: OurOptions = { ...OURS, connectionName }
  if (typeof source === 'string') return new Redis(toIoredis(source), options)
  const given = isClient(source) ? source.options : source
  // Without it a subscriber stays connected to a frozen master for ever (seen with Sentinel and SIGSTOP).
  const ours: OurOptions = { ...options, ...(given.sentinels && { failoverDetector: true }) }
  return isClient(source) ? source.duplicate(ours) : new Redis({ ...source, ...ours })
}

/** Identifies the Redis and the user of `source`: registrations with equal identities share their links. */
export function identityOf(source: RedisSource): string {
  const probe = isClient(source) ? source : createClient(source, 'probe')
  const { host, port, path, db, username, password, sentinels, name, tls } = probe.options
  return JSON.stringify([path ?? [host, port], db ?? 0, username, password, sentinels, name, Boolean(tls)])
}

/** Throws PUSH_ERR_OPTIONS if no client can be created from `source`. */
export function checkSource(source: unknown): RedisSource {
  const problem = sourceProblem(source)
  if (problem) throw new errors.OPTIONS(`option redis ${problem}`)
  return source as RedisSource
}

function sourceProblem(source: unknown): string | undefined {
  if (typeof source === 'string') return urlProblem(source)
  if (typeof source !== 'object' || source === null || Array.isArray(source)) {
    return 'must be a URL, ioredis options or a client'
  }
  return 'isCluster' in source && source.isCluster
    ? 'is a Cluster client, which is not supported; give a single Redis or Sentinels'
    : undefined
}

function isClient(source: RedisSource): source is Redis {
  return typeof source === 'object' && typeof (source as Partial<Redis>).duplicate === 'function'
}

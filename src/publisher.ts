import type { Broker } from './broker/broker.ts'
import { checkSource, pubSubOf, type RedisSource, targetOf } from './broker/redis/client.ts'
import { FIRST_TIMELINE, historyIn } from './broker/redis/history.ts'
import { RedisInquiry } from './broker/redis/inquiry.ts'
import type { Master, Masters } from './broker/redis/masters.ts'
import { Names } from './broker/redis/names.ts'
import { PlainCommands } from './broker/redis/plain-commands.ts'
import { RedisPresence } from './broker/redis/presence.ts'
import { PublishCommands } from './broker/redis/publish-commands.ts'
import { mastersFor } from './broker/redis/publisher-links.ts'
import { RedisRevocations } from './broker/redis/revocations.ts'
import { askNodes, explain, type NodesQuery } from './node/monitoring/inquirer.ts'
import type { Explanation, Nodes } from './node/monitoring/report-schemas.ts'
import { type Members, type MembersQuery, type OnlineUser, readMembers, readUser } from './node/presence/reader.ts'
import { issueTicket } from './node/tickets.ts'
import { REVOCATION_TTL } from './options/identity.ts'
import type { Authentication } from './options/options.ts'
import { fail } from './options/values.ts'
import { errors } from './protocol/errors.ts'
import { PREFIX_PATTERN } from './protocol/topic.ts'
import { unknownKey } from './protocol/unknown-keys.ts'
import { Commands } from './publish/commands.ts'
import { type HistoryQuery, HistoryReader, parseHistory, type TopicHistory } from './publish/history-page.ts'
import { HistoryRules, rulesProblem } from './publish/history-rules.ts'
import { type Publish, Publisher, type PublishResult } from './publish/publish.ts'
import { revoke } from './publish/revoke.ts'
import { type PublicationSchemas, SchemaTable } from './publish/schemas.ts'

export interface CreatePublisherOptions {
  /** URL, ioredis options or a client, which is duplicated and never used itself. */
  redis: RedisSource
  /** Prefix of every Redis name, the same as on the nodes. Default `push:`. */
  redisPrefix?: string
  /** Milliseconds until a publish answers or fails. Default 2000. */
  publishTimeout?: number
  /** Bytes of one publication. Default 262144, as on the nodes. */
  maxBytes?: number
  /**
   * Which topics are recorded; use the same rules as on the nodes. Default: none, unless a call of `publish` says so.
   */
  history?: Readonly<Record<string, { size: number; ttl: number }>>
  /** Payloads are checked here before anything is sent. The nodes check their own schemas in any case. */
  schemas?: PublicationSchemas
  /** Seconds for which `revoke` keeps a user out, as `revocation.ttl` on the nodes. Default a day. */
  revocationTtl?: number
}

/** What a script can know: of connections, only the nodes know. */
export interface ScriptStatus {
  broker: 'redis'
  /** Whether Redis, or every master of the Cluster, can be reached. */
  connected: boolean
  /** Why not, if that is known. */
  problem: string | undefined
  /** How many nodes are alive; undefined while Redis cannot be asked. */
  nodes: number | undefined
}

/** The calls of `app.push` in a script: same arguments, same results, same errors. */
export interface ScriptPublisher extends AsyncDisposable {
  publish: Publish
  /** Closes the connections of `user:ID` or `connection:ID` on any node; `delivered` is how many were closed. */
  close(target: string, code?: number, reason?: string): Promise<PublishResult>
  /** Subscribes the current connections of `user:ID` or `connection:ID` on any node, without asking `authorize`. */
  subscribe(target: string, topic: string): Promise<PublishResult>
  /** Closes the connections of `user:ID` on every node, and keeps out what it had until now: see `app.push.revoke`. */
  revoke(target: string): Promise<PublishResult>
  unsubscribe(target: string, topic: string): Promise<PublishResult>
  /** Resolves with a single-use secret that stands for `identity`, good for `ttl` seconds (30), at most a day. */
  ticket(identity: Authentication, ttl?: number): Promise<string>
  status(): Promise<ScriptStatus>
  /** How every node is. Who does not answer within a second is missing: then `complete` is false. */
  nodes(query?: NodesQuery): Promise<Nodes>
  /** Why something did or did not arrive on `topic`: what every node knows of it, and what to conclude. */
  explain(topic: string): Promise<Explanation>
  /** Who is on `topic`, if the nodes keep that: see the option `presence`. */
  presence(topic: string, query?: MembersQuery): Promise<Members>
  /** Whether a user is online, and on which connections: with `presence: { users: true }` on the nodes. */
  user(user: string): Promise<OnlineUser>
  /** Who is online, in pages. */
  users(query?: MembersQuery): Promise<Members>
  /** A page of what is kept of a recorded topic. */
  history(topic: string, query?: HistoryQuery): Promise<TopicHistory>
  /** Ends the link to Redis, so that the script can end. `await using` calls it by itself. */
  end(): Promise<void>
}

const KEYS = ['redis', 'redisPrefix', 'publishTimeout', 'maxBytes', 'history', 'schemas', 'revocationTtl'] as const

/** Publishes from any script, without Fastify and without a node: `createPublisher({ redis: 'redis://127.0.0.1' })`. */
export function createPublisher(options: CreatePublisherOptions): ScriptPublisher {
  const unknown = unknownKey(options, KEYS)
  if (unknown) throw new errors.OPTIONS(unknown)
  const {
    redis,
    redisPrefix = 'push:',
    publishTimeout = 2000,
    maxBytes = 256 * 1024,
    history = {},
    schemas = {},
    revocationTtl = REVOCATION_TTL.default,
  } = options
  if (!redis) fail('redis', 'is missing or empty: REDIS_URL not set?')
  if (!new RegExp(PREFIX_PATTERN).test(redisPrefix)) {
    fail('redisPrefix', 'is not 1 to 64 characters without white space, braces and wildcards')
  }
  refuseLess('publishTimeout', publishTimeout, 10)
  refuseLess('maxBytes', maxBytes, 1)
  refuseLess('revocationTtl', revocationTtl, REVOCATION_TTL.minimum)
  const problem = rulesProblem(history)
  if (problem) fail('history', problem)
  const target = targetOf(checkSource(redis))
  const table = new SchemaTable(schemas)
  // What throws comes before: nobody could end these links.
  const masters = mastersFor(target, redisPrefix, 'publisher')
  const names = new Names(redisPrefix)
  const plain = new PlainCommands(masters, names, publishTimeout)
  const publishing = new PublishCommands(masters, names, { publishTimeout, maxBytes, pubSub: pubSubOf(target) })
  const rules = new HistoryRules(history)
  const publisher = new Publisher(publishing, table, rules, maxBytes)
  const commands = new Commands(publisher)
  const marks = new RedisRevocations(masters, names, publishTimeout)
  const revocation = {
    publisher,
    broker: { putRevocation: marks.put.bind(marks) },
    ttl: revocationTtl,
  }
  const presence = new RedisPresence(masters, names, { timeout: publishTimeout, isSharded: false })
  const histories = new HistoryReader(historyOf(masters, names, { timeout: publishTimeout, maxBytes }), table, maxBytes)
  const inquiry = new RedisInquiry(masters, names)
  const end = async () => masters.close()
  return {
    publish: publisher.publish,
    close: (target, code, reason) => commands.close(target, code, reason),
    subscribe: (target, topic) => commands.subscribe(target, topic),
    revoke: target => revoke(target, revocation),
    unsubscribe: (target, topic) => commands.unsubscribe(target, topic),
    ticket: async (identity, ttl) => (await issueTicket(plain, identity, ttl)).token,
    status: () => statusOf(masters, plain, publishTimeout),
    nodes: query => askNodes(inquiry, query),
    explain: topic => explain(inquiry, topic, it => rules.of(it) !== undefined),
    presence: (topic, query) => readMembers(presence, topic, query),
    user: user => readUser(presence, user),
    users: query => readMembers(presence, 'all', query),
    history: async (topic, query) => parseHistory(await histories.read(topic, query)),
    end,
    [Symbol.asyncDispose]: end,
  }
}

/** A script keeps no ticks, so it cannot know that Redis went back in time: it reads what is there. */
function historyOf(
  masters: Masters,
  names: Names,
  limits: { timeout: number; maxBytes: number },
): Pick<Broker, 'history'> {
  const functions = { isCluster: true, run: masters.call.bind(masters) }
  const { read } = historyIn(functions, names, limits, () => FIRST_TIMELINE)
  return { history: read }
}

async function statusOf(masters: Masters, plain: PlainCommands, timeout: number): Promise<ScriptStatus> {
  const [nodes, error] = await plain.nodes().then(
    count => [count, undefined] as const,
    (reason: Error) => [undefined, reason] as const,
  )
  const connected = isAnswer(error) && masters.isComplete && (await allAnswer(masters, timeout))
  return { broker: 'redis', connected, problem: error?.message, nodes }
}

/** In a Cluster, the master that was asked for the number of nodes may be the only one that is there, or the first one. */
async function allAnswer({ all }: Masters, timeout: number): Promise<boolean> {
  const ping = ({ commands }: Master) => commands.run([['PING']], timeout, { patience: timeout })
  return (await Promise.all(all.map(ping))).every(([reply]) => isAnswer(reply))
}

/** A refusal is one too. */
function isAnswer(reply: unknown): boolean {
  return !(reply instanceof Error) || (reply.cause as Error | undefined)?.name === 'ReplyError'
}

function refuseLess(name: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) fail(name, `is not a whole number of at least ${least}`)
}

import { readFileSync } from 'node:fs'
import type { Broker } from '../../broker/broker.ts'
import type { Metrics } from '../../broker/metrics.ts'
import type { Connection } from '../../connection/connection.ts'
import { timeOf } from '../../connection/identity.ts'
import type { Registry } from '../../connection/registry.ts'
import type { LimitNotes } from '../../delivery/limit-notes.ts'
import type { Recent, RecentPublications } from '../../delivery/recent.ts'
import type { Rounds } from '../../delivery/rounds.ts'
import type { NodesQuestion, Question } from '../../protocol/question.ts'
import type { Topic } from '../../protocol/topic.ts'
import { loopDelay } from './loop-delay.ts'
import { Percentiles } from './percentiles.ts'
import type { Refusal, RefusalNotes } from './refusal-notes.ts'
import {
  type BusyTopic,
  MAX_MEMBERS,
  MAX_PROBLEM,
  MAX_PUBLICATIONS,
  type NodeReport,
  type TopicReport,
} from './report-schemas.ts'
import { Samples } from './samples.ts'

/** The registration that is reported on. */
export interface Reported {
  readonly name: string
  readonly broker: Pick<Broker, 'node' | 'connected' | 'problem' | 'downSince' | 'lag' | 'troubleWith'>
  readonly registry: Registry<Connection>
  readonly metrics: Metrics
  readonly rounds: Pick<Rounds, 'watch'>
  readonly recent: RecentPublications
  readonly limitNotes: LimitNotes
  readonly refusals: RefusalNotes
  state(): { isDraining: boolean; stalled: number; bytes: number }
  /** Whether a rule says that publications on the topic are recorded. */
  isRecorded(topic: Topic): boolean
  /** Milliseconds since the last sign of life of a connection, about. */
  idleTime(connection: Connection): number
  pendingUpgrades(): number
}

/** Milliseconds between two samples, and how many of them are a period in which publications are counted. */
const SAMPLE_EVERY = 5000
const ROTATE_EVERY = 6

const version = readVersion()

/** What a registration of this node answers when all nodes are asked. */
export class Reporter {
  readonly #of: Reported
  readonly #samples: Samples
  readonly #delays = new Percentiles()
  readonly #latencies = new Percentiles()
  #sampledAt = performance.now()
  #taken = 0
  readonly #unwatch: readonly (() => void)[]

  constructor(of: Reported) {
    this.#of = of
    this.#samples = new Samples(of.metrics)
    this.#unwatch = [
      of.rounds.watch(({ age }) => {
        if (age !== undefined) this.#latencies.add(age)
      }),
      loopDelay.watch(seconds => this.#onLook(seconds)),
    ]
  }

  #onLook(seconds: number): void {
    this.#delays.add(seconds * 1000)
    const now = performance.now()
    if (now - this.#sampledAt >= SAMPLE_EVERY) this.#sample(now)
  }

  #sample(now: number): void {
    this.#sampledAt = now
    const { registry, broker, recent } = this.#of
    this.#samples.take({
      at: Date.now(),
      connections: registry.size,
      lag: Math.round(broker.lag),
      loopDelay: this.#delays.p99,
      rss: process.memoryUsage.rss(),
    })
    this.#delays.rotate()
    this.#latencies.rotate()
    if (++this.#taken % ROTATE_EVERY === 0) recent.rotate(now)
  }

  answer(question: Question): NodeReport | TopicReport {
    return question.ask === 'nodes' ? this.#reportNode(question) : this.#reportTopic(question.topic)
  }

  get #state() {
    const { name: registration, broker } = this.#of
    const { isDraining: draining } = this.#of.state()
    const { node, connected, problem } = broker
    const why = problem === undefined ? {} : { problem: problem.slice(0, MAX_PROBLEM) }
    return { node, registration, now: Date.now(), draining, connected, ...why }
  }

  #reportNode({ samples, topics = 0 }: NodesQuestion): NodeReport {
    const { registry, broker, metrics } = this.#of
    const { stalled, bytes } = this.#of.state()
    const { rss, heapUsed: heap } = process.memoryUsage()
    const { user, system } = process.cpuUsage()
    const latency = this.#latencies.lately
    return {
      ...this.#state,
      version,
      startedAt: Math.round(performance.timeOrigin),
      connections: registry.size,
      topics: registry.topicCount,
      pendingUpgrades: this.#of.pendingUpgrades(),
      stalledConnections: stalled,
      heldBytes: bytes,
      lag: Math.round(broker.lag),
      memory: { rss, heap },
      cpu: (user + system) / 1e6,
      loopDelay: this.#delays.lately ?? { p50: 0, p99: 0 },
      ...(latency && { latency }),
      counters: metrics.snapshot(),
      ...(samples && { samples: this.#samples.all }),
      ...(topics > 0 && { busiest: this.#busiest(topics) }),
    }
  }

  #busiest(most: number): BusyTopic[] {
    const { recent, registry } = this.#of
    return recent
      .busiest(most)
      .map(({ topic, publications }) => ({ topic, connections: registry.countOn(topic), publications }))
  }

  #reportTopic(topic: Topic): TopicReport {
    const { registry, broker, recent, limitNotes } = this.#of
    const refusals = this.#refusalsOf(topic)
    const { refused, filling } = broker.troubleWith(topic)
    if (registry.holds(topic)) recent.watch(topic, performance.now())
    const members: TopicReport['members'] = []
    for (const connection of registry.members(topic)) {
      if (members.push(this.#memberOf(connection, topic)) === MAX_MEMBERS) break
    }
    return {
      ...this.#state,
      ...(broker.downSince !== undefined && { cutOffSince: broker.downSince }),
      lag: Math.round(broker.lag),
      ...(this.#of.isRecorded(topic) && { recorded: true }),
      connections: registry.countOn(topic),
      members,
      ...(refused && { refused }),
      ...(filling && { filling }),
      publications: recent.of(topic).slice(0, MAX_PUBLICATIONS).map(publicationOf),
      dropped: limitNotes.of(topic),
      ...(refusals.length > 0 && { refusals }),
    }
  }

  /** Without who has got the topic since. */
  #refusalsOf(topic: Topic): NonNullable<TopicReport['refusals']> {
    const { registry, refusals } = this.#of
    const isMember = (id: string | undefined) => {
      const connection = id === undefined ? undefined : registry.get(id)
      return connection !== undefined && registry.has(connection, topic)
    }
    return refusals
      .of(topic)
      .filter(({ connection }) => !isMember(connection))
      .map(refusalOf)
  }

  #memberOf(connection: Connection, topic: Topic): TopicReport['members'][number] {
    const { id, user, buffered, isStalled } = connection
    const connected = timeOf(connection.opened)
    const joined = this.#of.registry.joinedAt(connection, topic)
    // The clock may have been set back between the two.
    const since = joined === undefined ? connected : Math.max(connected, timeOf(joined))
    const lastSeen = Math.max(connected, Math.round(Date.now() - this.#of.idleTime(connection)))
    const via = connection.transport === 'sse' ? { transport: 'sse' as const } : {}
    return { id, user, ...via, since, connected, queuedBytes: buffered, stalled: isStalled, lastSeen }
  }

  close(): void {
    for (const end of this.#unwatch) end()
  }
}

function publicationOf({ at, type, id, delivered, skipped, rejected }: Recent): TopicReport['publications'][number] {
  return {
    at: clockOf(at),
    ...(type !== undefined && { type }),
    ...(id !== undefined && { id }),
    delivered,
    skipped,
    ...(rejected !== undefined && { rejected }),
  }
}

function refusalOf({ at, connection, ...of }: Refusal): NonNullable<TopicReport['refusals']>[number] {
  return { at: clockOf(at), ...of, ...(connection !== undefined && { connection }) }
}

/** The clock may have been set since the process began. */
function clockOf(at: number): number {
  return Math.round(Date.now() - (performance.now() - at))
}

/** An application that is bundled has no package.json beside it. */
function readVersion(): string {
  try {
    const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
    const { name, version } = JSON.parse(text) as { name?: unknown; version?: unknown }
    return name === 'fastify-push-bridge' ? String(version) : 'unknown'
  } catch {
    return 'unknown'
  }
}

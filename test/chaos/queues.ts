import { KafkaCluster } from '../helpers/kafka.ts'
import type { Cleanup } from '../helpers/processes.ts'
import { RabbitmqServer } from '../helpers/rabbitmq.ts'
import type { IngressConfig, IngressKind } from './ingress.ts'
import { FaultProxy } from './proxy.ts'

/** RabbitMQ and Kafka, for one run after the other: each takes seconds to start. Every run has queues of its own. */
export class Queues {
  readonly #hooks: (() => unknown)[] = []
  readonly #t: Cleanup = { after: hook => void this.#hooks.push(hook) }
  rabbitmq: RabbitmqServer | undefined
  kafka: KafkaCluster | undefined

  static async start(kinds: readonly IngressKind[]): Promise<Queues> {
    const queues = new Queues()
    // Whoever ends this program by a signal: RabbitMQ would stay.
    process.once('exit', queues.#kill)
    if (kinds.includes('rabbitmq')) queues.rabbitmq = await RabbitmqServer.open(queues.#t)
    if (kinds.includes('kafka')) queues.kafka = await KafkaCluster.open(queues.#t)
    return queues
  }

  /**
   * True if Kafka had ended by itself, and another one is there now. In one of some forty runs the mock fails over an answer to SyncGroup that
   * it has sent already (`rd_kafka_mock_cgrp_member_sync_set` of librdkafka 2.0): what it had confirmed is lost, and the run says nothing.
   */
  async mend(): Promise<boolean> {
    if (!this.kafka?.hasEnded) return false
    this.kafka = await KafkaCluster.open(this.#t)
    return true
  }

  readonly #kill = (): void => {
    for (const hook of this.#hooks.toReversed()) hook()
  }

  async close(): Promise<void> {
    process.off('exit', this.#kill)
    for (const hook of this.#hooks.toReversed()) await hook()
  }
}

/** The proxies by which one program reaches the brokers. */
export interface QueueLinks {
  rabbitmq: FaultProxy | undefined
  /** In the order of the brokers. */
  kafka: FaultProxy[]
}

let runs = 0

/** The queues of one run, and the ways to them. */
export class RunQueues {
  readonly rabbitmq: RabbitmqServer | undefined
  readonly kafka: KafkaCluster | undefined
  /** Of each program. */
  readonly links: QueueLinks[] = []
  readonly #hasStreams: boolean
  readonly #name: string
  readonly #isOrdered: boolean
  /** Set while a fault has RabbitMQ. */
  isTaken = false

  /** `isOrdered`: RabbitMQ and the stream give their messages to one node at a time. Kafka keeps its order anyway. */
  constructor(queues: Queues, kinds: readonly IngressKind[], isOrdered: boolean) {
    this.rabbitmq = kinds.includes('rabbitmq') ? queues.rabbitmq : undefined
    this.kafka = kinds.includes('kafka') ? queues.kafka : undefined
    this.#hasStreams = kinds.includes('streams')
    this.#name = `chaos-${process.pid}-${++runs}`
    this.#isOrdered = isOrdered
  }

  /** Makes what a node could not make itself; a RabbitMQ that a run left dead is started again. */
  async open(): Promise<void> {
    if (this.rabbitmq && !this.rabbitmq.isRunning) await this.rabbitmq.start()
    if (!this.kafka) return
    const admin = this.kafka.kafka.admin()
    await admin.connect()
    // The mock makes what it is asked about.
    await admin.fetchTopicMetadata({ topics: [this.#name] })
    await admin.disconnect()
  }

  /** Ways to the brokers for one more program. */
  async connect(): Promise<QueueLinks> {
    const { rabbitmq, kafka } = this
    const ports = kafka?.brokers.map(portOf) ?? []
    const links: QueueLinks = {
      rabbitmq: rabbitmq && (await FaultProxy.start(rabbitmq.port)),
      kafka: await Promise.all(ports.map(port => FaultProxy.start(port))),
    }
    this.links.push(links)
    return links
  }

  /** What a program is told that goes these ways. */
  configOf({ rabbitmq, kafka: proxies }: QueueLinks): IngressConfig {
    const isOrdered = this.#isOrdered
    const config: IngressConfig = this.#hasStreams ? { streams: { isOrdered } } : {}
    if (rabbitmq) {
      const url = `amqp://guest:guest@127.0.0.1:${rabbitmq.port}`
      config.rabbitmq = { url, queue: this.#name, isOrdered }
    }
    const { kafka } = this
    if (kafka) {
      const ports = Object.fromEntries(kafka.brokers.map((broker, i) => [portOf(broker), proxies[i]!.port]))
      config.kafka = { brokers: kafka.brokers, ports, topic: this.#name, group: this.#name }
    }
    return config
  }

  close(): void {
    for (const { rabbitmq, kafka } of this.links) for (const proxy of [rabbitmq, ...kafka]) proxy?.close()
  }
}

const portOf = (broker: string): number => Number(broker.split(':')[1])

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { type Admin, Kafka, type Producer } from 'kafkajs'
import { type Cleanup, path } from './processes.ts'
import { findProgram } from './programs.ts'
import { Inbox, START } from './waiting.ts'

/** The mock cluster of librdkafka, from Debian's confluent-kafka for Python: three brokers that keep what they have in memory. */
export class KafkaCluster {
  readonly brokers: string[]
  readonly #process: ChildProcess
  readonly #answers: Inbox<string>

  private constructor(process: ChildProcess, answers: Inbox<string>, brokers: string[]) {
    this.#process = process
    this.#answers = answers
    this.brokers = brokers
  }

  /** Starts a cluster that ends with `t`. */
  static async open(t: Cleanup): Promise<KafkaCluster> {
    const python = findProgram('/usr/bin/python3', 'python3')!
    const child = spawn(python, [path('test/helpers/kafka_cluster.py')], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.after(() => child.kill('SIGKILL'))
    const answers = new Inbox<string>('an answer of the Kafka in Python')
    createInterface({ input: child.stdout! }).on('line', line => answers.put(line))
    const { brokers } = JSON.parse(await answers.take(START)) as { brokers: string[] }
    return new KafkaCluster(child, answers, brokers)
  }

  /** librdkafka's mock has failed: an assertion of its own ends all brokers, with what they held. */
  get hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** Produces with librdkafka, and creates the topic if need be, with four partitions. Resolves with where it is. */
  async produce(topic: string, key: string, value: string): Promise<{ partition: number; offset: number }> {
    this.#process.stdin!.write(`${JSON.stringify({ topic, key, value })}\n`)
    const [partition, offset] = JSON.parse(await this.#answers.take()) as [number, number]
    return { partition, offset }
  }

  /** What kafkajs needs to know. */
  get kafka(): Kafka {
    return new Kafka({ brokers: this.brokers, logLevel: 0 })
  }

  async producer(t: Cleanup): Promise<Producer> {
    const producer = this.kafka.producer()
    await producer.connect()
    t.after(() => producer.disconnect())
    return producer
  }

  async admin(t: Cleanup): Promise<Admin> {
    const admin = this.kafka.admin()
    await admin.connect()
    t.after(() => admin.disconnect())
    return admin
  }

  /** No broker answers any more, until `thaw`. */
  freeze(): void {
    this.#process.kill('SIGSTOP')
  }

  thaw(): void {
    this.#process.kill('SIGCONT')
  }
}

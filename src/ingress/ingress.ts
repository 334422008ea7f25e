import type { FastifyBaseLogger } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import type { Intake } from './intake.ts'

/**
 * A road by which publication requests come in from a queue: of the package, or your own. It takes messages from its
 * queue, gives each to the intake, and does with the message in its queue what the verdict says.
 */
export interface Ingress {
  /** Stands in metrics, status and log lines; no two roads of a registration share one. 1 to 64 of A-Z a-z 0-9 _ . : - */
  readonly name: string
  /** Which topics the queue may publish on: patterns, as those of a key. Required: nothing is open because nobody set it. */
  readonly topics: readonly string[]
  /**
   * Called once, when the server is ready. Returns soon, whether or not the queue can be reached: it goes on trying, and
   * says so in `problem`. Throws only for what will never work, such as a package that is not installed.
   */
  open(parts: IngressParts): Promise<OpenIngress> | OpenIngress
}

/** What the bridge gives to a road. */
export interface IngressParts {
  readonly intake: Intake
  readonly log: FastifyBaseLogger
  /** The id of this node, new at every boot. */
  readonly node: string
  /** What carries publications here. A road waits while it is not `connected`: everything that it took would fail. */
  readonly broker: Pick<Broker, 'kind' | 'connected' | 'openStreamQueue'>
  /** How long `close` may take, in milliseconds. */
  readonly closeTimeout: number
}

export interface OpenIngress {
  /** Messages that wait in the queue, if the road knows. */
  readonly lag: number | undefined
  /** Why nothing comes in, as a sentence; undefined while it works. */
  readonly problem: string | undefined
  /** Takes nothing new, finishes what it has taken (bounded), lets go of the queue. Never rejects. */
  close(): Promise<void>
}

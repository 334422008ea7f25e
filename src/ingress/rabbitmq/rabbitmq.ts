import type { Ingress } from '../ingress.ts'
import { parseRabbitmq, type RabbitmqIngressOptions } from './options.ts'
import { openQueue } from './queue.ts'

export type { RabbitmqIngressOptions }

/**
 * A road from a queue of RabbitMQ (or another server of AMQP 0-9-1): `ingress: [rabbitmqIngress({ rabbitmq: url, topics })]`.
 * Needs the package rabbitmq-client. Throws PUSH_ERR_OPTIONS.
 */
export function rabbitmqIngress(options: RabbitmqIngressOptions): Ingress {
  const parsed = parseRabbitmq(options)
  const { name, topics } = parsed
  return { name, topics, open: parts => openQueue(parts, parsed) }
}

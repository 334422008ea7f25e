import type { Ingress } from '../ingress.ts'
import { openGroup } from './group.ts'
import { type KafkaIngressOptions, parseKafka } from './options.ts'

export type { KafkaIngressOptions }

/**
 * A road from topics of Kafka: `ingress: [kafkaIngress({ kafka: { brokers }, kafkaTopics, topics })]`. Needs the package
 * kafkajs. Throws PUSH_ERR_OPTIONS.
 */
export function kafkaIngress(options: KafkaIngressOptions): Ingress {
  const parsed = parseKafka(options)
  const { name, topics } = parsed
  return { name, topics, open: parts => openGroup(parts, parsed) }
}

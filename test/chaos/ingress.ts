/** The queues through which publications can come in. */
export const INGRESS_KINDS = ['streams', 'rabbitmq', 'kafka'] as const
export type IngressKind = (typeof INGRESS_KINDS)[number]

/** What one program is told of them: each reaches a broker by proxies of its own. What is absent is not used. */
export interface IngressConfig {
  streams?: StreamsConfig
  rabbitmq?: RabbitmqConfig
  kafka?: KafkaConfig
}

export interface StreamsConfig {
  /** One node at a time takes from it, and so its order holds. */
  isOrdered: boolean
}

export interface RabbitmqConfig {
  url: string
  queue: string
  /** As for the stream. */
  isOrdered: boolean
}

export interface KafkaConfig {
  brokers: string[]
  /** Where the ports that the brokers announce are reached. */
  ports: Record<number, number>
  topic: string
  group: string
}

/** Of the mock, for a topic that it makes by itself. */
export const PARTITIONS = 4

/** Of the queue, the same for whoever declares it. */
export function argumentsOf({ isOrdered }: RabbitmqConfig): Record<string, boolean> {
  return isOrdered ? { 'x-single-active-consumer': true } : {}
}

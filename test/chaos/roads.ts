import type { Ingress } from '../../src/ingress/ingress.ts'
import { kafkaIngress } from '../../src/ingress/kafka/kafka.ts'
import { rabbitmqIngress } from '../../src/ingress/rabbitmq/rabbitmq.ts'
import { streamsIngress } from '../../src/ingress/streams/streams.ts'
import { argumentsOf, type IngressConfig } from './ingress.ts'
import { kafkaSettings } from './kafka-link.ts'

const topics = ['*']

/** Shorter than some faults: a node that is frozen or cut off loses its partitions. */
const SESSION_TIMEOUT = 3000

/** The roads of a node. */
export function roadsOf({ streams, rabbitmq, kafka }: IngressConfig): Ingress[] {
  const roads: Ingress[] = []
  // A message is a dead letter only if it is wrong: however often the nodes are killed, none of these is.
  if (streams) {
    roads.push(streamsIngress({ topics, claimAfter: 1000, tries: 1000, strictOrder: streams.isOrdered }))
  }
  if (rabbitmq) {
    const { url, queue } = rabbitmq
    roads.push(rabbitmqIngress({ rabbitmq: url, topics, queue, arguments: argumentsOf(rabbitmq) }))
  }
  if (kafka) {
    const { topic, group } = kafka
    const settings = { kafka: kafkaSettings(kafka), kafkaTopics: [topic], group, sessionTimeout: SESSION_TIMEOUT }
    // Otherwise the group may begin behind what was written before it was there.
    roads.push(kafkaIngress({ ...settings, topics, fromBeginning: true }))
  }
  return roads
}

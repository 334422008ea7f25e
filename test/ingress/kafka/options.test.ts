import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Kafka } from 'kafkajs'
import { type KafkaIngressOptions, kafkaIngress } from '../../../src/ingress/kafka/kafka.ts'
import { isClient, type KafkaClient } from '../../../src/ingress/kafka/library.ts'
import { parseKafka } from '../../../src/ingress/kafka/options.ts'

const LEAST = { kafka: { brokers: ['127.0.0.1:9092'] }, kafkaTopics: ['orders'], topics: ['channel:*'] }

test('three options are enough, and what is left out has a default', () => {
  const { name, topics } = kafkaIngress(LEAST)
  assert.deepEqual([name, topics], ['kafka', ['channel:*']])
  assert.deepEqual(parseKafka({ ...LEAST, group: undefined }), {
    ...LEAST,
    tries: 5,
    group: 'push-ingress',
    fromBeginning: false,
    concurrency: 4,
    fetchBytes: 1_048_576,
    sessionTimeout: 15_000,
    name: 'kafka',
  })
})

test('a wrong option is named, with what to write instead', () => {
  const refused = (options: object, message: RegExp) =>
    assert.throws(() => kafkaIngress({ ...LEAST, ...options } as KafkaIngressOptions), {
      code: 'PUSH_ERR_OPTIONS',
      message,
    })
  refused({ topics: [] }, /kafkaIngress\.topics must name what may be published on/)
  refused({ kafka: { clientId: 'a' } }, /kafkaIngress\.kafka has no brokers: write \{ brokers: /)
  refused({ kafka: { brokers: [] } }, /has no brokers/)
  refused({ kafkaTopics: undefined }, /kafkaTopics/)
  refused({ kafkaTopics: ['or ders'] }, /kafkaIngress\.kafkaTopics\.0 /)
  refused({ kafkaTopic: 'a' }, /kafkaIngress\..*kafkaTopic/)
  refused({ deadLetters: 'orders' }, /deadLetters is one of kafkaTopics/)
  refused({ concurrency: 0 }, /kafkaIngress\.concurrency /)
  refused({ sessionTimeout: 10 }, /kafkaIngress\.sessionTimeout /)
})

test('a Kafka of the library is known as one', () => {
  // Compiled: what is used of the library is what it has.
  const client: KafkaClient = new Kafka({ brokers: ['127.0.0.1:9092'] })
  assert.equal(isClient(client), true)
  assert.equal(isClient(LEAST.kafka), false)
  assert.equal(parseKafka({ ...LEAST, kafka: client }).kafka, client)
  assert.doesNotThrow(() => kafkaIngress({ ...LEAST, kafka: { brokers: async () => ['127.0.0.1:9092'] } }))
})

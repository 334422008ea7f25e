import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TObject } from 'typebox'
import { kafkaIngress } from '../../src/ingress/kafka/kafka.ts'
import { KafkaSchema } from '../../src/ingress/kafka/options.ts'
import { RabbitmqSchema } from '../../src/ingress/rabbitmq/options.ts'
import { rabbitmqIngress } from '../../src/ingress/rabbitmq/rabbitmq.ts'
import { blocksOf, sectionOf } from '../helpers/ingress-page.ts'

/** The options of a section, with what their table says of the default. */
function tableOf(section: string): Map<string, string> {
  const [, rows] = sectionOf(section).split('| option | default | meaning |\n| --- | --- | --- |\n')
  const lines = rows!.split('\n').slice(0, rows!.split('\n').indexOf(''))
  return new Map(lines.map(line => line.slice(2, -2).split(' | ') as [string, string]))
}

/** What the table has to say. */
function expected(schema: TObject): Map<string, string> {
  const { properties, required } = schema as { properties: Record<string, { default?: unknown }>; required: string[] }
  const entries = Object.entries(properties).map(([name, { default: value }]) => {
    const fallback = required.includes(name) ? 'required' : 'none'
    return [`\`${name}\``, value === undefined ? fallback : `\`${JSON.stringify(value)}\``] as const
  })
  return new Map(entries)
}

const sorted = (table: Map<string, string>) => [...table].toSorted()

test('the tables of options are the schemas', () => {
  assert.deepEqual(sorted(tableOf('RabbitMQ')), sorted(expected(RabbitmqSchema)))
  assert.deepEqual(sorted(tableOf('Kafka')), sorted(expected(KafkaSchema)))
})

/** The options in the first code block of a section. */
function exampleOf(section: string, road: string): unknown {
  const [code] = blocksOf(section, 'js')
  const [, options] = new RegExp(`${road}\\((\\{[\\s\\S]*?\\n {4}\\})\\)`).exec(code!)!
  return new Function('process', `return (${options})`)({ env: { RABBITMQ_URL: 'amqp://127.0.0.1' } })
}

test('the options of the examples are some', () => {
  const rabbitmq = rabbitmqIngress(exampleOf('RabbitMQ', 'rabbitmqIngress') as never)
  const kafka = kafkaIngress(exampleOf('Kafka', 'kafkaIngress') as never)
  for (const { topics } of [rabbitmq, kafka]) assert.deepEqual(topics, ['channel:orders.*', 'user:*'])
})

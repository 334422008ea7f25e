import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from 'rabbitmq-client'
import { isClient, type RabbitClient } from '../../../src/ingress/rabbitmq/library.ts'
import { parseRabbitmq } from '../../../src/ingress/rabbitmq/options.ts'
import { type RabbitmqIngressOptions, rabbitmqIngress } from '../../../src/ingress/rabbitmq/rabbitmq.ts'

const LEAST = { rabbitmq: 'amqp://127.0.0.1', topics: ['channel:*'] }

test('two options are enough, and what is left out has a default', () => {
  const { name, topics } = rabbitmqIngress(LEAST)
  assert.deepEqual([name, topics], ['rabbitmq', ['channel:*']])
  assert.deepEqual(parseRabbitmq({ ...LEAST, queue: undefined }), {
    ...LEAST,
    tries: 5,
    queue: 'push-ingress',
    exchangeType: 'topic',
    patterns: ['#'],
    declare: true,
    arguments: {},
    prefetch: 64,
    concurrency: 1,
    name: 'rabbitmq',
  })
})

test('a wrong option is named, with what to write instead', () => {
  const refused = (options: object, message: RegExp) =>
    assert.throws(() => rabbitmqIngress({ ...LEAST, ...options } as RabbitmqIngressOptions), {
      code: 'PUSH_ERR_OPTIONS',
      message,
    })
  refused({ topics: undefined }, /rabbitmqIngress\.topics must name what may be published on/)
  refused({ topics: ['orders'] }, /rabbitmqIngress\.topics cannot be used/)
  refused({ rabbitmq: undefined }, /rabbitmq/)
  refused({ qeueu: 'a' }, /rabbitmqIngress\..*qeueu/)
  refused({ queue: '' }, /rabbitmqIngress\.queue /)
  refused({ name: 'a b' }, /rabbitmqIngress\.name .*1 to 64/)
  refused({ prefetch: 0 }, /rabbitmqIngress\.prefetch /)
  refused({ prefetch: 4, concurrency: 5 }, /concurrency is 5, and prefetch lets only 4 messages in/)
  refused({ deadLetters: 'push-ingress' }, /deadLetters is the queue itself/)
  refused({ declare: false, exchange: 'orders' }, /declare is false, so exchange and arguments do nothing/)
  refused({ declare: false, arguments: { 'x-max-length': 1 } }, /declare is false/)
  assert.throws(() => rabbitmqIngress(undefined as never), { code: 'PUSH_ERR_OPTIONS' })
})

test('a Connection of the library is known as one', t => {
  const connection = new Connection({ port: 1, retryLow: 60_000 })
  connection.on('error', () => {})
  t.after(() => connection.unsafeDestroy())
  // Compiled: what is used of the library is what it has.
  const client: RabbitClient = connection
  assert.equal(isClient(client), true)
  assert.equal(isClient({ hostname: '127.0.0.1' }), false)
  assert.equal(parseRabbitmq({ ...LEAST, rabbitmq: connection }).rabbitmq, connection)
})

test('a URL that cannot be used ends the start, without what it contains', async () => {
  const road = rabbitmqIngress({ ...LEAST, rabbitmq: 'http://user:secret@127.0.0.1' })
  await assert.rejects(
    async () => road.open({ node: 'n', log: { warn() {} } } as never),
    (error: Error) => {
      assert.match(error.message, /option rabbitmqIngress\.rabbitmq cannot be used/)
      assert.doesNotMatch(String(error.stack), /secret/)
      return true
    },
  )
})

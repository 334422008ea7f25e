/** Copied to program.cts as well: both are compiled with the types of the package, and run. */
import Fastify from 'fastify'
import pushBridge, { clientHandler, type PushBridgeOptions, type PushConnection } from 'fastify-push-bridge'
import { type Client, connect } from 'fastify-push-bridge/client'
import { kafkaIngress } from 'fastify-push-bridge/ingress-kafka'
import { rabbitmqIngress } from 'fastify-push-bridge/ingress-rabbitmq'
import { createPublisher } from 'fastify-push-bridge/publisher'
import { openConnection } from 'fastify-push-bridge/testing'

declare module 'fastify-push-bridge' {
  interface Publications {
    'order.created': { id: number }
  }
}

const options: PushBridgeOptions = {
  path: '/ws',
  authenticate: request => ({ user: String(request.headers['x-user']) }),
  handlers: {
    whoami: clientHandler({ type: 'object' }, (_payload, connection: PushConnection) => connection.user),
  },
}

async function main(): Promise<void> {
  const app = Fastify()
  await app.register(pushBridge, options)
  const connection = await openConnection(app, '/ws', { headers: { 'x-user': '42' } })
  const { nodes } = await app.push.publish('user:42', { type: 'order.created', payload: { id: 1 } })
  const { payload } = await connection.next('order.created')
  connection.send('whoami', {}, 1)
  const reply = await connection.next('reply')
  await connection.close()
  await app.close()
  console.log(JSON.stringify([nodes, payload, reply.payload]))
}

/** Compiled, never called: it would need a Redis and a page. */
export async function compiled(): Promise<void> {
  const app = Fastify()
  // @ts-expect-error: the payload of this type has a number
  await app.push.publish('user:42', { type: 'order.created', payload: { id: '1' } })
  // @ts-expect-error: there is no such option
  options.redisPrefx = 'push:'
  options.ingress = [
    rabbitmqIngress({
      rabbitmq: { hostname: '127.0.0.1' },
      topics: ['channel:*'],
      arguments: { 'x-queue-type': 'quorum' },
    }),
    kafkaIngress({
      kafka: { brokers: ['127.0.0.1:9092'] },
      kafkaTopics: ['push'],
      topics: ['channel:*'],
      group: undefined,
    }),
  ]
  const client: Client<{ 'order.created': { id: number } }> = connect('/ws')
  client.on('order.created', order => order.id.toFixed())
  const publisher = createPublisher({ redis: 'redis://127.0.0.1' })
  const { topic } = await publisher.publish('all', { type: 'order.created', payload: { id: 1 } })
  topic satisfies string
  await publisher.close('user:42', 4403)
  await publisher.end()
}

void main()

/**
 * Publishes from a script, without Fastify and without a node of its own:
 *
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx example/publish.ts channel:demo order.created '{"id":7}'
 *
 * In your own project: import { createPublisher } from 'fastify-push-bridge/publisher'
 */
import { createPublisher } from '../src/publisher.ts'

const { REDIS_URL } = process.env
const [topic = 'channel:demo', type = 'notice', payload = '{"text":"hello"}'] = process.argv.slice(2)

if (!REDIS_URL) {
  console.error('REDIS_URL is not set: REDIS_URL=redis://127.0.0.1:6379 npx tsx example/publish.ts')
  process.exit(1)
}

const publisher = createPublisher({ redis: REDIS_URL })
try {
  const result = await publisher.publish(topic, { type, payload: JSON.parse(payload), receipt: true })
  console.log(`${topic}: delivered to ${result.delivered} connections on ${result.nodes} nodes`)
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
} finally {
  await publisher.end()
}

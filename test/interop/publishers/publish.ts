import { createPublisher } from '../../../src/publisher.ts'

/** `publish.ts PORT FROM FIRST COUNT TOPICS`: numbered messages to every topic, in order, none of them waited for. */
const [port, from, first, count, topics] = process.argv.slice(2) as [string, string, string, string, string]
const publisher = createPublisher({ redis: `redis://127.0.0.1:${port}`, publishTimeout: 60_000 })
const published: Promise<unknown>[] = []
for (let n = Number(first); n < Number(first) + Number(count); n++) {
  for (const topic of topics.split(',')) {
    published.push(publisher.publish(topic, { type: 'tick', payload: { from, n } }))
  }
}
await Promise.all(published)
await publisher.end()

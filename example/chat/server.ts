/**
 * A chat with rooms, who is there and who is typing. All of it is options of the bridge: no code of this file runs when
 * somebody writes.
 *
 *   npx tsx example/chat/server.ts
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx example/chat/server.ts      on as many nodes as you like
 *
 * PORT (3000) · REDIS_URL
 */
import { readFile } from 'node:fs/promises'
import Fastify, { type FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import pushBridge, { isTopic } from '../../src/index.ts'

const { PORT = '3000', REDIS_URL } = process.env

const app = Fastify({ logger: { level: 'warn' } })
await app.register(pushBridge, {
  path: '/ws',
  redis: REDIS_URL || false,
  authenticate: identify,
  // A client that comes to a room gets its newest messages, and one that was away what it missed.
  history: { 'channel:room.*': { size: 200, ttl: 24 * 60 * 60 } },
  presence: { 'channel:room.*': { info: true } },
  clientPublications: {
    'chat.message': { schema: Type.Object({ text: Type.String({ minLength: 1, maxLength: 2000 }) }), rate: 5 },
    // On a topic of its own, which is not recorded: who was typing yesterday is no news.
    'chat.typing': { schema: Type.Object({}, { additionalProperties: false }), rate: 2 },
  },
  drain: { window: 1000 },
})

/** Anybody may call themselves anything here. A chat of your own looks at its session. */
function identify({ query }: FastifyRequest) {
  const { name } = query as { name?: unknown }
  if (typeof name !== 'string' || !isTopic(`user:${name}`)) return null
  return {
    user: name,
    info: { since: Date.now() },
    allow: [
      { topics: 'channel:room.*', actions: ['subscribe', 'publish', 'presence', 'history'] as const },
      { topics: 'channel:typing.*', actions: ['subscribe', 'publish'] as const },
    ],
  }
}

const files = { '/': ['index.html', 'text/html'], '/chat.js': ['chat.js', 'text/javascript'] } as const
for (const [url, [file, type]] of Object.entries(files)) {
  app.get(url, async (_request, reply) => {
    reply.type(`${type}; charset=utf-8`).header('cache-control', 'no-cache')
    return readFile(new URL(file, import.meta.url))
  })
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => app.close().then(() => process.exit(0)))
const origin = await app.listen({ port: Number(PORT), host: '127.0.0.1' })
process.stdout.write(`Open ${origin}/?name=ann and ${origin}/?name=bob\n`)

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyReply, FastifyRequest } from 'fastify'

let loaded: ReturnType<typeof load> | undefined

/** The path of the bundle is the same from `src` and from `dist`. */
function load() {
  const source = readFileSync(new URL('../../dist/client.module.js', import.meta.url), 'utf8')
  return { source, etag: `"${createHash('sha256').update(source).digest('base64url').slice(0, 22)}"` }
}

/** Serves the browser client as one module that pages of the allowed origins may import. */
export function clientModule(origins: readonly string[] | undefined) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    loaded ??= load()
    const { source, etag } = loaded
    const { origin } = request.headers
    // Browsers fetch modules with CORS, and @fastify/helmet sets same-origin on every reply that sets nothing else.
    if (origin !== undefined && (origins?.includes('*') || origins?.includes(origin))) {
      reply.header('access-control-allow-origin', origin)
      reply.header('cross-origin-resource-policy', 'cross-origin')
    }
    reply.header('vary', 'Origin').header('etag', etag).header('cache-control', 'no-cache')
    if (request.headers['if-none-match'] === etag) return reply.code(304).send()
    return reply.type('text/javascript; charset=utf-8').send(source)
  }
}

import type { Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../broker/metrics.ts'

type Reason = 'timeout' | 'too_large' | 'malformed'

/**
 * Counts requests of which no route hears: their header does not end in time, is too large, or is none. Node's parser refuses
 * them before it is known whom they are for, so they are those of the whole server. Fastify answers them, with 408, 431 and
 * 400, through a listener of its own, which stays.
 */
export function countClientErrors(app: FastifyInstance, metrics: Metrics): void {
  const server = app.server as Server
  const count = (error: NodeJS.ErrnoException) => {
    const reason = reasonOf(error.code ?? '')
    if (reason) metrics.count('requests_refused_total', 1, reason)
  }
  server.on('clientError', count)
  app.addHook('onClose', async () => void server.off('clientError', count))
}

/** Undefined if nobody is refused: the client is gone. */
function reasonOf(code: string): Reason | undefined {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'timeout'
  if (code === 'HPE_HEADER_OVERFLOW' || code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return 'too_large'
  return code.startsWith('HPE_') ? 'malformed' : undefined
}

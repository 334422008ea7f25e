// For HEALTHCHECK: the image has neither curl nor wget. A node that lost Redis is ready all the same: it recovers by itself,
// and a restart would disconnect its clients.
import { get } from 'node:http'

const end = isReady => process.exit(isReady ? 0 : 1)
const { PORT = '3000' } = process.env
get({ host: '127.0.0.1', port: Number(PORT), path: '/readyz', timeout: 2000 }, ({ statusCode }) =>
  end(statusCode === 200),
)
  .on('timeout', () => end(false))
  .on('error', () => end(false))

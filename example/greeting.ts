import { publishLines } from './lines.ts'

export interface Greeting {
  address: string
  port: number
  key: string
  redis: string | undefined
  redisPrefix: string
  /** Whether the broker answers. */
  connected: boolean
}

const TOPIC = 'channel:demo'
const ANYWHERE: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' }

/** What the demo prints when it listens: nothing that would not work if it were pasted now. */
export function greet({ address, port, key, redis, redisPrefix, connected }: Greeting): string {
  const host = ANYWHERE[address] ?? address
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  const lines = publishLines({ origin, key, redis, hasRedis: redis !== undefined, redisPrefix }, TOPIC)
  return [
    '',
    'fastify-push-bridge: a demo. Anybody who connects may call themselves anything.',
    '',
    `  The page       ${origin}/`,
    `  As somebody    ${origin}/?user=alice`,
    '',
    ...(redis === undefined ? alone(lines.curl) : shared(lines, connected)),
    '',
  ].join('\n')
}

function alone(curl: string): string[] {
  return [
    'Open the page, paste this into another terminal and watch it arrive:',
    '',
    `  ${curl}`,
    '',
    'This process is on its own. With a Redis, PHP, Python and redis-cli can publish, and several nodes share the work:',
    '',
    '  REDIS_URL=redis://127.0.0.1:6379 npm start',
  ]
}

function shared({ curl, redisCli, php }: ReturnType<typeof publishLines>, connected: boolean): string[] {
  if (!connected) return ['Redis does not answer yet. Once it does, the page shows lines to paste.']
  return [
    'Open the page, paste any of these into another terminal and watch it arrive:',
    '',
    ...[curl, redisCli, php].flatMap(line => (line === undefined ? [] : [`  ${line}`, ''])),
    'Start it once more with another PORT and the same REDIS_URL: that is a second node, and these lines reach both.',
  ]
}

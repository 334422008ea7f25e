/** Lines to paste: the same publication in four languages, quoted so that any topic survives the shell. */

export interface LineSource {
  /** Where the push API answers, for example `http://127.0.0.1:3000`. */
  origin: string
  /** Key of the push API; undefined where it must not be shown. */
  key: string | undefined
  /** URL of the Redis in use; undefined without one, or where it must not be shown. */
  redis: string | undefined
  /** Whether a Redis carries the publications, shown or not. */
  hasRedis: boolean
  redisPrefix: string
}

export interface PublishLines {
  javascript: string
  curl: string
  php: string
  /** Undefined where no such line would work. */
  redisCli: string | undefined
}

const TYPE = 'notice'
const TEXT = 'hello'
const PAYLOAD = { text: TEXT }

export function publishLines(source: LineSource, topic: string): PublishLines {
  const { origin, key } = source
  const authorization =
    key === undefined ? '"Authorization: Bearer $PUSH_API_KEY"' : shell(`Authorization: Bearer ${key}`)
  const body = JSON.stringify({ to: topic, type: TYPE, payload: PAYLOAD, receipt: true })
  const json = shell('Content-Type: application/json')
  return {
    javascript: `await app.push.publish(${script(topic)}, { type: '${TYPE}', payload: { text: '${TEXT}' } })`,
    curl: `curl ${shell(`${origin}/push`)} -H ${authorization} -H ${json} -d ${shell(body)}`,
    php: phpRedisLine(source, topic) ?? phpHttpLine(source, body),
    redisCli: redisCliLine(source, topic),
  }
}

function redisCliLine({ redis, hasRedis, redisPrefix }: LineSource, topic: string): string | undefined {
  if (!hasRedis || (redis !== undefined && !isUrl(redis))) return undefined
  const url = redis === undefined ? '"$REDIS_URL"' : shell(redis)
  const envelope = JSON.stringify({ type: TYPE, payload: PAYLOAD })
  return `redis-cli -u ${url} PUBLISH ${shell(redisPrefix + topic)} ${shell(envelope)}`
}

/** With the extension `redis`. */
function phpRedisLine({ redis, redisPrefix }: LineSource, topic: string): string | undefined {
  if (redis === undefined || !isUrl(redis)) return undefined
  const { protocol, hostname, port, username, password } = new URL(redis)
  const host = (protocol === 'rediss:' ? 'tls://' : '') + hostname
  const secret = [username, password].filter(Boolean).map(part => php(decodeURIComponent(part)))
  return phpLine([
    '$r = new Redis',
    `$r->connect(${php(host)}, ${port || 6379})`,
    ...(secret.length > 0 ? [`$r->auth([${secret}])`] : []),
    `echo $r->publish(${php(redisPrefix + topic)}, ${php(JSON.stringify({ type: TYPE, payload: PAYLOAD }))}), PHP_EOL`,
  ])
}

/** With nothing but PHP. */
function phpHttpLine({ origin, key }: LineSource, body: string): string {
  const authorization =
    key === undefined ? '"Authorization: Bearer ".getenv("PUSH_API_KEY")' : php(`Authorization: Bearer ${key}`)
  const header = `"header" => [${authorization}, "Content-Type: application/json"]`
  const http = `["method" => "POST", ${header}, "content" => ${php(body)}]`
  return phpLine([
    `echo file_get_contents(${php(`${origin}/push`)}, false, stream_context_create(["http" => ${http}])), PHP_EOL`,
  ])
}

function phpLine(statements: readonly string[]): string {
  return `php -r ${shell(`${statements.join('; ')};`)}`
}

function isUrl(redis: string): boolean {
  return /^rediss?:\/\//.test(redis)
}

function shell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

function php(text: string): string {
  return `"${text.replace(/[\\"$]/g, '\\$&')}"`
}

function script(text: string): string {
  return text.includes("'") || text.includes('\\') ? JSON.stringify(text) : `'${text}'`
}

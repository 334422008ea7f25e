import type { Client, ClientError, PublishedMessage } from '../client/index.ts'
import type { ScriptPublisher } from '../publisher.ts'
import { countIn, type Desk, EXIT, type Given, numberIn, on, type Task, text, UsageError } from './command.ts'
import { connect, openSockets, type Refusal, urlOf, withoutQuery } from './socket.ts'
import { jsonOf, printable } from './table.ts'

/** As many as a node replays. */
const MAX_LAST = 100

/** What a message is for people: one line. */
function lineOf({ topic = '', type, payload, seq, id }: PublishedMessage): string {
  const place = seq === undefined ? '' : `  #${seq} ${id ?? ''}`.trimEnd()
  return printable(`${new Date().toISOString().slice(11, 19)}  ${topic}  ${type}  ${JSON.stringify(payload)}${place}`)
}

/** How a client proves who it is: what was given, or a ticket for each attempt, made through Redis. */
function credentials({ args, flags }: Given, desk: Desk) {
  const { ticket, user } = flags as { ticket?: string; user?: string }
  const token = (flags.token as string | undefined) || desk.env.PUSH_TOKEN
  if (ticket && token) throw new UsageError('--ticket and --token (PUSH_TOKEN) are both given: keep one of them')
  if (token) return { headers: { authorization: `Bearer ${token}` } }
  if (ticket) return { ticket: async () => ticket }
  if (flags.anonymous) return {}
  if (!desk.way()) {
    throw new UsageError(
      'REDIS_URL (--redis) is not set, so no ticket can be made: set it, or give --ticket, --token or --anonymous',
    )
  }
  const publisher = desk.open()
  return { ticket: () => ticketFor(publisher, args, user) }
}

/** Every connection has `all`. `--last` needs a right of its own. */
function ticketFor(publisher: ScriptPublisher, args: readonly string[], user: string | undefined): Promise<string> {
  const topics = args.filter(topic => topic !== 'all')
  const allow = topics.length > 0 ? [{ topics, actions: ['subscribe', 'history'] as const }] : []
  return publisher.ticket({ ...(user !== undefined && { user }), allow })
}

/** Why the server does not want this client, and what mends it. */
function refusalOf(code: number, reason: string): string {
  const hint = HINTS[code]
  return `the server closed the connection: ${code} ${printable(reason)}`.trimEnd() + (hint ? `: ${hint}` : '')
}

/** Asking again changes nothing; whatever else a server or a proxy answers may be over soon. */
const FINAL = new Set([301, 302, 307, 308, 400, 401, 403, 404, 426])

/** Why there was no upgrade, if that will not change. */
function finalProblem({ status, body }: Refusal): string | undefined {
  if (!FINAL.has(status)) return undefined
  const hint = status === 401 ? HINTS[4401] : 'fastify-push-bridge doctor --url says what is wrong'
  return `the server refused the connection: ${status} ${printable(messageIn(body))}`.trimEnd() + `: ${hint}`
}

function messageIn(body: string): string {
  try {
    const { code, message } = JSON.parse(body) as { code?: unknown; message?: unknown }
    return [code, message].filter(it => typeof it === 'string').join(' ')
  } catch {
    return ''
  }
}

const HINTS: Record<number, string> = {
  4401: 'a ticket can be used once and expires; without --ticket the command makes one itself, through the Redis of the nodes',
  4403: 'the server lets this client not in, or not from here',
  4429: 'the client sent too much',
}

/** Follows the topics until there is enough, nobody wants more or the server wants no more. */
async function follow(given: Given, desk: Desk): Promise<number> {
  const { args, flags } = given
  const last = flags.last === undefined ? undefined : countIn(flags, 'last', { fallback: 1, most: MAX_LAST })
  const count = numberIn(flags, 'count') ?? Number.POSITIVE_INFINITY
  if (!(count >= 1)) throw new UsageError(`--count is ${count}: it must be at least 1`)
  const since = flags.since as string | undefined
  if (since !== undefined && args.length > 1) throw new UsageError('--since is a place in one topic: name one topic')
  const url = urlOf(flags, desk.env)
  const { headers, ...proof } = credentials(given, desk) as {
    headers?: Record<string, string>
    ticket?: () => Promise<string>
  }
  let refuse: (refusal: Refusal) => void = () => {}
  const sockets = openSockets(headers, refusal => refuse(refusal))
  const client = connect(url, {
    ...proof,
    WebSocket: sockets.WebSocket,
    ...(since !== undefined && { since: { [args[0]!]: since } }),
  })
  try {
    return await new Promise<number>((resolve, reject) => {
      desk.ended.addEventListener('abort', () => resolve(EXIT.done), { once: true })
      if (desk.ended.aborted) resolve(EXIT.done)
      print(client, desk, { count, done: () => resolve(EXIT.done) })
      watch(client, desk, { url, reject })
      refuse = refusal => {
        const problem = finalProblem(refusal)
        if (problem) reject(new Error(problem))
      }
      for (const topic of args) join(client, topic, last).catch(reject)
    })
  } finally {
    client.close()
    await sockets.end()
  }
}

/** A topic that is refused is the end; a connection that is lost is not. */
async function join(client: Client, topic: string, last: number | undefined): Promise<void> {
  try {
    await client.subscribe(topic, last === undefined ? {} : { last })
  } catch (error) {
    if ((error as ClientError).code.startsWith('PUSH_ERR_')) throw error
  }
}

function print(client: Client, { terminal, isJson }: Desk, { count, done }: { count: number; done(): void }): void {
  let printed = 0
  client.on('*', (_payload, message) => {
    // What was on its way when the last one was printed.
    if (printed >= count) return
    terminal.out(`${isJson ? jsonOf(message) : lineOf(message)}\n`)
    if (++printed >= count) done()
  })
  client.listen('gap', gap => {
    if (isJson) terminal.out(`${jsonOf({ type: 'gap', payload: gap })}\n`)
    else terminal.err(`messages of ${printable(gap.topics.join(', '))} may be missing: ${printable(gap.reason)}\n`)
  })
}

/** Says how the connection is, and ends what can come to nothing. */
function watch(client: Client, desk: Desk, { url, reject }: { url: URL; reject(error: Error): void }): void {
  const { err } = desk.terminal
  let problem = ''
  client.listen('welcome', ({ node, user }) =>
    err(printable(`connected to node ${node}${user ? ` as ${user}` : ''}`) + '\n'),
  )
  client.listen('state', ({ state, code = 0, reason = '', delay = 0 }) => {
    if (state === 'closed' && !desk.ended.aborted) reject(new Error(refusalOf(code, reason)))
    if (state === 'waiting' && client.welcome) {
      err(`disconnected (${code} ${printable(reason)}), again in ${Math.round(delay)} ms\n`)
    }
  })
  client.listen('error', error => {
    problem = ((error.cause as Error | undefined) ?? error).message
    if (client.welcome) err(`${printable(problem)}\n`)
  })
  client.listen('invalid', () => err('the server sent what is no message: is this the path of the nodes?\n'))
  client.listen('unreachable', ({ attempts, message }) => {
    // One that was there may come back, and then it says what was missed.
    if (client.welcome) return
    reject(new Error(`${withoutQuery(url)} does not answer, ${attempts} attempts: ${withoutQuery(problem || message)}`))
  })
}

export const subscribe: Task = {
  usage: 'TOPIC…',
  about:
    'follow topics as a client does: --url ws://…, --since ID or --last N first, --count N ends it; ' +
    'with a ticket that it makes through Redis (--user ID), or --ticket, --token (PUSH_TOKEN) or --anonymous',
  flags: { url: text, since: text, last: text, count: text, user: text, ticket: text, token: text, anonymous: on },
  takes: [1, 100],
  needsRedis: false,
  perform: follow,
}

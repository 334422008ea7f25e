import type { Welcome } from '../protocol/messages.ts'
import { streamFindings } from './doctor-stream.ts'
import { type Finding, hint, mend, ok } from './findings.ts'
import { isLoopback, type RawData, type Refusal, refusalIn, WebSocket, withoutQuery } from './socket.ts'

export interface Visit {
  /** Where clients connect. */
  url: URL
  /** That of the pages. */
  origin: string
  /** What goes into the URL or the headers to prove who this is; nothing: anonymous. */
  ticket?: string | undefined
  token?: string | undefined
  /** For an event stream, since the other one is spent by then. */
  secondTicket?: string | undefined
  /** Waits until the node has asked for a sign of life, which shows how long a proxy lets a silent connection be. */
  isPatient: boolean
  ended: AbortSignal
}

const WITHIN = 10_000
const MAX_MESSAGE = 1024 * 1024
const MAX_BODY = 4096

/** The longest that a heartbeat is waited for. */
const MAX_WAIT = 90_000
const LATER = 3000
const USUAL_INTERVAL = 25_000

/** Nodes look after silent connections together, a little later than promised. */
const LATER_BY = 1.25

const LINES = [
  'proxy_http_version 1.1;',
  'proxy_set_header Upgrade $http_upgrade;',
  'proxy_set_header Connection "upgrade";',
].join('\n')
const HOST_LINE = 'proxy_set_header Host $http_host;'

/** What came of an upgrade. */
type Outcome =
  | { kind: 'open'; socket: WebSocket; welcome: Welcome; milliseconds: number }
  | { kind: 'closed'; code: number; reason: string }
  | ({ kind: 'refused' } & Refusal)
  | { kind: 'failed'; message: string }

/** Connects as a page would, through whatever stands in front of the nodes. */
export async function serverFindings(visit: Visit): Promise<Finding[]> {
  const findings = [...(await readiness(visit)), ...transportOf(visit)]
  const outcome = await open(visit)
  if (outcome.kind !== 'failed') findings.push(...(await streamFindings({ ...visit, ticket: visit.secondTicket })))
  if (outcome.kind !== 'open') return [...findings, ...judge(outcome, visit)]
  const { socket } = outcome
  try {
    return [...findings, ...(await look(socket, outcome, visit))]
  } finally {
    socket.terminate()
  }
}

function transportOf({ url }: Visit): Finding[] {
  if (url.protocol === 'wss:' || isLoopback(url)) return []
  const line = `use ${withoutQuery(url).replace(/^ws:/, 'wss:')}, with TLS in the proxy`
  return [hint('tls', 'ws:// without TLS: tickets can be read on the way, and old proxies break it', line)]
}

function open({ url, origin, ticket, token, ended }: Visit): Promise<Outcome> {
  const address = new URL(url)
  if (ticket !== undefined) address.searchParams.set('ticket', ticket)
  const start = performance.now()
  const socket = new WebSocket(address, {
    headers: { origin, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
    handshakeTimeout: WITHIN,
    maxPayload: MAX_MESSAGE,
  })
  return new Promise(resolve => {
    const late = setTimeout(() => settle({ kind: 'failed', message: `no welcome within ${WITHIN} ms` }), WITHIN)
    const settle = (outcome: Outcome) => {
      clearTimeout(late)
      ended.removeEventListener('abort', stop)
      if (outcome.kind !== 'open') socket.terminate()
      resolve(outcome)
    }
    const stop = () => settle({ kind: 'failed', message: 'it was ended' })
    ended.addEventListener('abort', stop)
    socket.on('error', error => settle({ kind: 'failed', message: error.message }))
    socket.on('unexpected-response', async (_request, response) =>
      settle({ kind: 'refused', ...(await refusalIn(response)) }),
    )
    socket.on('close', (code, reason) => settle({ kind: 'closed', code, reason: String(reason) }))
    socket.once('message', data => {
      const welcome = welcomeIn(data)
      const milliseconds = performance.now() - start
      settle(
        welcome
          ? { kind: 'open', socket, welcome, milliseconds }
          : { kind: 'failed', message: 'no welcome came first' },
      )
    })
  })
}

function welcomeIn(data: RawData): Welcome | undefined {
  try {
    const { type, payload } = JSON.parse(String(data))
    return type === 'welcome' ? payload : undefined
  } catch {
    return undefined
  }
}

/** Why no welcome came, and what mends it. A refusal by the node shows that the upgrade came through. */
export function judge(
  outcome: Exclude<Outcome, { kind: 'open' }>,
  { url, origin }: Pick<Visit, 'url' | 'origin'>,
): Finding[] {
  if (outcome.kind === 'failed') {
    const line = `check that a node or a proxy listens at ${url.host}, and its certificate if it is wss://`
    return [mend('upgrade', `${withoutQuery(url)}: ${outcome.message}`, line)]
  }
  if (outcome.kind === 'closed') return judgeClosed(outcome, origin)
  const { status, location, body } = outcome
  const said = codeIn(body)
  if (status === 426 && !said?.startsWith('PUSH_ERR')) {
    return [mend('upgrade', '426: the upgrade does not reach the node: a proxy takes it out', LINES)]
  }
  if (status === 426) return [mend('upgrade', '426: a proxy takes Upgrade or Connection out of the request', LINES)]
  if (status >= 300 && status < 400) {
    return [mend('upgrade', `${status}: redirected`, `use ${withoutQuery(location ?? 'the address that it leads to')}`)]
  }
  if (status === 401) return through(`${said ?? 401}: nobody gets in without a ticket`)
  if (status === 403 && said === 'PUSH_ERR_ORIGIN') return through('', badOrigin(origin, ''))
  if (status === 403) return through(`${said ?? 403}: not allowed`)
  if (status === 404) {
    return [
      mend(
        'upgrade',
        `404 for ${url.pathname}: no node listens at this path`,
        'compare --path (WS_PATH) and the location of the proxy',
      ),
    ]
  }
  if (status === 502 || status === 504) {
    return [
      mend(
        'upgrade',
        `${status}: the proxy does not reach a node`,
        'compare its upstream with HOST and PORT of the nodes',
      ),
    ]
  }
  const line = status === 503 || status === 429 ? 'see status().problem and the limits of the node' : LINES
  return [mend('upgrade', `${status} ${said ?? body.slice(0, 100)}`.trimEnd(), line)]
}

function judgeClosed({ code, reason }: { code: number; reason: string }, origin: string): Finding[] {
  if (code === 4401) return through(`4401 ${reason}: nobody gets in without a ticket`)
  if (code === 4403 && /origin/i.test(reason)) return through('', badOrigin(origin, reason))
  if (code === 4403) return through(`4403 ${reason}`)
  return [
    mend('upgrade', `closed at once: ${code} ${reason}`.trimEnd(), 'see the log of the node, and that of the proxy'),
  ]
}

function through(found: string, another?: Finding): Finding[] {
  const first = ok('upgrade', 'it comes through to the node')
  if (another) return [first, another]
  const line = 'set REDIS_URL, so that a ticket can be made, or give --ticket or --token'
  return [
    first,
    ok('host', 'the origin of the page may connect'),
    hint('identity', `${found}; the rest was not looked at`, line),
  ]
}

function badOrigin(origin: string, reason: string): Finding {
  const found = `pages of ${origin} may not connect: ${reason || 'the node sees another host'}`
  return mend('host', found, `${HOST_LINE}\nor ORIGINS=${origin}, if pages come from another host than the nodes`)
}

function codeIn(body: string): string | undefined {
  try {
    const { code } = JSON.parse(body) as { code?: unknown }
    return typeof code === 'string' ? code : undefined
  } catch {
    return undefined
  }
}

/** On an open connection: what is negotiated, whether bytes come back at once, and how long it may be silent. */
async function look(
  socket: WebSocket,
  { welcome, milliseconds }: { welcome: Welcome; milliseconds: number },
  visit: Visit,
): Promise<Finding[]> {
  const findings = [
    ok('upgrade', `it comes through to node ${welcome.node} in ${milliseconds.toFixed(0)} ms`),
    ok('host', `pages of ${visit.origin} may connect`),
    ok('compression', socket.extensions ? `negotiated: ${socket.extensions}` : 'off'),
  ]
  const echo = await echoOf(socket, visit.ended)
  const held = 'what is sent does not come back within 10 s: something on the way holds it'
  if (echo === undefined)
    return [...findings, mend('buffering', held, 'proxy_buffering off; and no HTTP inspection of upgrades')]
  findings.push(ok('buffering', `a message comes back in ${echo.toFixed(1)} ms`))
  if (!visit.isPatient)
    return [...findings, hint('timeout', 'not looked at: leave out --quick, it takes one heartbeat')]
  return [...findings, await silence(socket, Number(welcome.heartbeat?.interval) || USUAL_INTERVAL, visit.ended)]
}

function echoOf(socket: WebSocket, ended: AbortSignal): Promise<number | undefined> {
  const start = performance.now()
  return new Promise(resolve => {
    const settle = (value: number | undefined) => {
      clearTimeout(late)
      socket.off('message', heard).off('close', gone)
      ended.removeEventListener('abort', gone)
      resolve(value)
    }
    const heard = (data: RawData) => String(data).startsWith('{"type":"pong"') && settle(performance.now() - start)
    const gone = () => settle(undefined)
    const late = setTimeout(gone, WITHIN)
    ended.addEventListener('abort', gone)
    socket.on('message', heard).on('close', gone)
    socket.send('{"type":"ping"}')
  })
}

/** Says nothing until the node asks for a sign of life: then no proxy is more impatient than that. */
function silence(socket: WebSocket, interval: number, ended: AbortSignal): Promise<Finding> {
  const start = performance.now()
  const about = 'timeout'
  const most = Math.min(MAX_WAIT, interval * LATER_BY + LATER)
  const seconds = () => ((performance.now() - start) / 1000).toFixed(0)
  return new Promise(resolve => {
    const settle = (finding: Finding) => {
      clearTimeout(late)
      socket.off('ping', asked).off('close', closed)
      ended.removeEventListener('abort', stopped)
      resolve(finding)
    }
    const asked = () => settle(ok(about, `a silent connection lives until the heartbeat, after ${seconds()} s`))
    const stopped = () => settle(hint(about, 'it was ended before the heartbeat'))
    const closed = (code: number) => {
      const found = `a silent connection is closed (${code}) after ${seconds()} s, before the heartbeat (${interval / 1000} s)`
      settle(mend(about, found, `proxy_read_timeout 120s;\nor a heartbeat.interval below ${seconds()} s`))
    }
    const late = setTimeout(() => settle(hint(about, `no heartbeat came within ${seconds()} s`)), most)
    ended.addEventListener('abort', stopped)
    socket.on('ping', asked).on('close', closed)
  })
}

/** `readyz` at the same address, if the proxy lets it through. */
async function readiness({ url }: Visit): Promise<Finding[]> {
  const address = new URL('/readyz?strict', url)
  address.protocol = url.protocol.replace(/^ws/, 'http')
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(WITHIN), redirect: 'manual' })
    const { status, problem } = JSON.parse(await beginningOf(response)) as { status?: string; problem?: string }
    if (response.ok) return [ok('readyz', `${status}`)]
    return [
      mend(
        'readyz',
        `${response.status} ${status}: ${problem ?? ''}`.trimEnd(),
        'see "What problem says" in docs/operations.md',
      ),
    ]
  } catch {
    return [hint('readyz', `not answered at ${address.host}: fine if only the path of the nodes leads there`)]
  }
}

/** Not all of it: whoever answers may never end. */
async function beginningOf({ body }: Response): Promise<string> {
  let text = ''
  if (!body) return text
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString()
    if (text.length > MAX_BODY) break
  }
  return text
}

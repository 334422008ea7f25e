import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { get as getSecurely } from 'node:https'
import { type Finding, mend, ok } from './findings.ts'

/** Where clients connect, and how they prove who they are. */
interface StreamVisit {
  url: URL
  origin: string
  ticket: string | undefined
  token?: string | undefined
  ended: AbortSignal
}

const WITHIN = 10_000
const MAX_TEXT = 64 * 1024

const LINES = 'proxy_buffering off;\ngzip off;'

/** Whether the messages of an event stream come through at once. Nothing where the node has none, or refuses. */
export async function streamFindings({ url, origin, ticket, token, ended }: StreamVisit): Promise<Finding[]> {
  const start = performance.now()
  const over = new AbortController()
  const stop = () => over.abort()
  const late = setTimeout(stop, WITHIN)
  ended.addEventListener('abort', stop)
  let isStream = false
  try {
    const headers = {
      accept: 'text/event-stream',
      origin,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    }
    const response = await answerOf(addressOf(url, ticket), { headers, signal: over.signal })
    isStream = response.headers['content-type']?.startsWith('text/event-stream') ?? false
    if (!isStream || !(await begins(response))) return []
    return [ok('events', `an event stream begins in ${(performance.now() - start).toFixed(0)} ms`)]
  } catch {
    const isHeld = over.signal.aborted && !ended.aborted
    if (!isHeld) return []
    const what = isStream
      ? 'an event stream is opened, but no message comes'
      : 'a request for an event stream is not answered'
    return [mend('events', `${what} within ${WITHIN / 1000} s: something on the way holds it`, LINES)]
  } finally {
    clearTimeout(late)
    ended.removeEventListener('abort', stop)
    over.abort()
  }
}

function addressOf(url: URL, ticket: string | undefined): URL {
  const address = new URL(url)
  address.protocol = url.protocol.replace(/^ws/, 'http')
  address.pathname = `${url.pathname.replace(/\/$/, '')}/-/events`
  if (ticket !== undefined) address.searchParams.set('ticket', ticket)
  return address
}

/**
 * On a connection of its own that ends with it. After a stream that is given up, `fetch` opens another connection for
 * whatever may follow, and a server that closes waits a minute for a request on it.
 */
async function answerOf(address: URL, options: { headers: Record<string, string>; signal: AbortSignal }) {
  const send = address.protocol === 'https:' ? getSecurely : get
  const [response] = await once(send(address, { ...options, agent: false }), 'response')
  return response as IncomingMessage
}

/** Whether its first message comes before it ends. */
async function begins(body: AsyncIterable<Uint8Array>): Promise<boolean> {
  let text = ''
  for await (const chunk of body) {
    text += Buffer.from(chunk).toString()
    if (text.includes('"type":"welcome"')) return true
    // Whoever answers may never end.
    if (text.length > MAX_TEXT) break
  }
  return false
}

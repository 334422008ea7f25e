import type { IncomingMessage } from 'node:http'
import { type RawData, WebSocket } from 'ws'
import { connect } from '../client/index.ts'
import { type Flags, UsageError } from './command.ts'

export { connect, type RawData, WebSocket }

const MAX_MESSAGE = 16 * 1024 * 1024
const HANDSHAKE_WITHIN = 10_000

/** How long a server may take to answer a close: a frozen one never does, and the command is over. */
const CLOSE_WITHIN = 1000

const ACK = '{"type":"ack"'

/** What an upgrade was answered with instead. */
export interface Refusal {
  status: number
  location: string | undefined
  body: string
}

const MAX_BODY = 4096

/** The beginning of the answer: whoever answers may never end. */
export async function refusalIn(response: IncomingMessage): Promise<Refusal> {
  let body = ''
  response.setEncoding('utf8').on('error', () => {})
  try {
    for await (const chunk of response) {
      body += chunk
      if (body.length > MAX_BODY) break
    }
  } catch {
    // What came is enough.
  }
  response.destroy()
  const { statusCode = 0, headers } = response
  return { status: statusCode, location: headers.location, body: body.slice(0, MAX_BODY) }
}

export interface OpenSockets {
  /** For the option `WebSocket` of the client. */
  WebSocket: typeof WebSocket
  /** Resolves when all are closed, in bounded time. */
  end(): Promise<void>
}

/** The sockets of a command. Whoever only looks does not acknowledge: a publisher would count it as a client that got it. */
export function openSockets(
  headers: Record<string, string> = {},
  refused: (refusal: Refusal) => void = () => {},
): OpenSockets {
  const opened = new Set<WebSocket>()
  class CommandSocket extends WebSocket {
    constructor(url: string) {
      super(url, { headers, maxPayload: MAX_MESSAGE, handshakeTimeout: HANDSHAKE_WITHIN })
      opened.add(this)
      this.once('close', () => opened.delete(this))
      this.once('unexpected-response', async (_request, response) => {
        refused(await refusalIn(response))
        // To the client it is a connection that was lost.
        this.terminate()
      })
    }

    override send(data: never, ...rest: never[]): void {
      if (typeof data === 'string' && (data as string).startsWith(ACK)) return
      super.send(data, ...rest)
    }
  }
  return {
    WebSocket: CommandSocket as typeof WebSocket,
    async end(): Promise<void> {
      const closing = [...opened].map(socket => new Promise(resolve => socket.once('close', resolve)))
      const timer = setTimeout(() => {
        for (const socket of opened) socket.terminate()
      }, CLOSE_WITHIN)
      for (const socket of opened) socket.close()
      await Promise.all(closing)
      clearTimeout(timer)
    },
  }
}

/** Where the nodes are: `--url`, else PUSH_URL, else where `serve` listens with these settings on this machine. */
export function urlOf(flags: Flags, env: NodeJS.ProcessEnv): URL {
  const given = (flags.url as string | undefined) || env.PUSH_URL
  const text = given || `ws://127.0.0.1:${env.PORT || 3000}${env.WS_PATH || '/ws'}`
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^(ws|http)s?:$/.test(url.protocol)) {
    throw new UsageError(`--url (PUSH_URL) is "${withoutQuery(text)}": it must be like ws://127.0.0.1:3000/ws`)
  }
  url.protocol = url.protocol.replace(/^http/, 'ws')
  return url
}

/** A query may have a ticket. */
export const withoutQuery = (url: string | URL): string =>
  String(url)
    .replace(/\?.*$/s, '')
    .replace(/\/\/[^/@]*@/, '//')

export function isLoopback({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}

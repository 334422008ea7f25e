import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { type ClientOptions, WebSocket } from 'ws'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import type { Right } from '../../src/protocol/rights.ts'
import { type OpenOptions, openConnection as open } from '../../src/testing.ts'
import { PATIENCE, within } from './waiting.ts'

interface Cleanup {
  after(hook: () => unknown): void
}

export interface TestApp {
  app: FastifyInstance
  port: number
  /** What was logged, as parsed lines. */
  log: { level: number; msg: string }[]
}

export const KEY = '0123456789abcdef'

/** Everybody may name a user and hear any channel: what most tests need. */
export const OPEN: PushBridgeOptions = {
  path: '/ws',
  authenticate: request => {
    const { user } = request.query as { user?: string }
    return { allow: ['channel:*'], ...(user !== undefined && { user }) }
  },
}

/** As many rights as a connection may have channels, and more than a ticket holds. */
export const manyRights = (): Right[] =>
  Array.from({ length: 128 }, (_, n) => ({
    topics: `channel:r${n}`,
    actions: ['subscribe', 'presence'],
    info: 'x'.repeat(1000),
  }))

/** An application with a log to look at; `set` registers whatever the test needs. Listens, and ends with the test. */
export async function buildApp(
  t: Cleanup,
  set: (app: FastifyInstance) => unknown,
  options: FastifyServerOptions = {},
): Promise<TestApp> {
  const log: TestApp['log'] = []
  const stream = new Writable({
    write(line, _encoding, done) {
      log.push(JSON.parse(String(line)))
      done()
    },
  })
  const app = Fastify({ ...options, logger: { level: 'trace', stream } } as FastifyServerOptions)
  t.after(() => within(app.close(), 'the end of an application'))
  await set(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port, log }
}

export function buildPush(t: Cleanup, options: Partial<PushBridgeOptions> = {}): Promise<TestApp> {
  return buildApp(t, app => app.register(pushBridge, { ...OPEN, ...options }))
}

/** What applications test with, and the patience of these tests in all that it waits for. */
export async function openConnection(app: FastifyInstance, path: string, options: OpenOptions = {}) {
  const opening = open(app, path, { timeout: PATIENCE, ...options })
  const connection = await within(opening, `a connection to ${path}`, 2 * PATIENCE)
  return {
    ...connection,
    get closed() {
      return within(connection.closed, `the end of the connection to ${path}`)
    },
  }
}

/** How an upgrade ended: the status of a refusal, or the code of the close that followed. */
export interface Refusal {
  status?: number
  body?: { code: string; message: string }
  code?: number
  reason?: string
}

/** Upgrades and waits for the refusal: over HTTP, or by close code when `origin` makes it a page. */
export function refusalOf(url: string, options: ClientOptions = {}): Promise<Refusal> {
  const socket = new WebSocket(url, options)
  const refused = new Promise<Refusal>((resolve, reject) => {
    socket.on('error', () => {})
    socket.on('message', data => reject(new Error(`not refused: ${data}`)))
    socket.on('unexpected-response', async (_request, response) => {
      resolve({ status: response.statusCode!, body: JSON.parse(await textOf(response)) })
    })
    socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
  })
  return within(refused, `the refusal of ${url}`)
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response) text += chunk
  return text
}

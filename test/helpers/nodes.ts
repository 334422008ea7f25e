import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import type { Welcome } from '../../src/protocol/messages.ts'
import type { TestMessage } from '../../src/testing.ts'
import { type Answer, callApi } from './api.ts'
import { once, START, within } from './waiting.ts'

interface Cleanup {
  after(hook: () => unknown): void
}

export interface NodeProcess {
  readonly port: number
  readonly process: ChildProcess
  connect(path: string, codec?: Codec): Promise<Client>
  push(body: unknown): Promise<{ status: number; body: unknown }>
  /** Calls another route of the push API. */
  call(path: string, body?: unknown): Promise<Answer>
  status(): Promise<{ node: string; nodes: number; connections: number; metrics: Record<string, number> }>
}

/** A client that keeps every message, with `next(type)` waiting for one that has not been taken yet. */
export interface Client {
  readonly welcome: Welcome
  next(type: string): Promise<TestMessage>
  send(type: string, payload?: unknown, ref?: number): void
  readonly closed: Promise<{ code: number; reason: string }>
}

/** `INGRESS`: options of `streamsIngress`, as JSON. `PUBLISH_TIMEOUT`: the option, in milliseconds. */
interface More {
  INGRESS?: string
  PUBLISH_TIMEOUT?: string
}

/** Starts a node as a process of its own, which is killed with the test. */
export async function startNode(t: Cleanup, redisUrl: string, more: More = {}): Promise<NodeProcess> {
  const script = fileURLToPath(new URL('./node-process.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', script], {
    env: { ...process.env, ...more, REDIS_URL: redisUrl, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => stop(child))
  const address = new Promise<string>(resolve => createInterface(child.stdout!).once('line', resolve))
  const { port } = JSON.parse(await within(address, 'the address of a node', START)) as { port: number }
  const base = `http://127.0.0.1:${port}`
  return {
    port,
    process: child,
    connect: (path, codec) => connectTo(t, `ws://127.0.0.1:${port}${path}`, codec),
    push: body => callApi(port, '/push', { body }),
    call: (path, body) => callApi(port, path, { body }),
    status: async () => (await fetch(`${base}/status`)).json() as never,
  }
}

/** Politely first: a process that was killed leaves no coverage behind. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGCONT')
  child.kill('SIGTERM')
  const deadline = setTimeout(() => child.kill('SIGKILL'), 5000)
  await once(child, 'exit')
  clearTimeout(deadline)
}

async function connectTo(t: Cleanup, url: string, codec: Codec | undefined): Promise<Client> {
  const socket = new WebSocket(url, codec ? [codec.protocol] : [])
  t.after(() => socket.terminate())
  const messages: TestMessage[] = []
  socket.on('message', data => {
    messages.push(codec ? (codec.decodeMessage(data as Buffer) as TestMessage) : JSON.parse(String(data)))
    socket.emit('taken')
  })
  const closed = new Promise<{ code: number; reason: string }>(resolve => {
    socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }))
  })
  const types = () => messages.map(({ type }) => type).join(', ') || 'nothing'
  const take = async (type: string): Promise<TestMessage> => {
    for (;;) {
      const index = messages.findIndex(message => message.type === type)
      if (index >= 0) return messages.splice(index, 1)[0]!
      await new Promise(resolve => socket.once('taken', resolve))
    }
  }
  const next = (type: string) => within(take(type), () => `the message ${type}; came: ${types()}`)
  const { payload } = await next('welcome')
  return {
    welcome: payload as Welcome,
    next,
    send: (type, body, ref) => {
      const message = { type, payload: body, ref }
      socket.send(codec?.encodeMessage(message) ?? JSON.stringify(message))
    },
    get closed() {
      return within(closed, () => `the end of the connection; came: ${types()}`)
    },
  }
}

import type { TestContext } from 'node:test'
import { WebSocket } from 'ws'
import type { ClientOptions } from '../../src/client/index.ts'

/** What a client on a stream waits before it tries a WebSocket, with `Math.random()` at 0: this, or a multiple. */
export const LOOK = 30_000

/** A network that lets WebSockets through or not. */
export class Network {
  isBlocked = true
  attempts = 0
  readonly WebSocket: NonNullable<ClientOptions['WebSocket']>

  constructor() {
    const network = this
    this.WebSocket = class extends WebSocket {
      constructor(url: string, protocols?: string[]) {
        network.attempts++
        super(network.isBlocked ? 'ws://127.0.0.1:9/blocked' : url, protocols)
      }
    } as never
  }
}

/**
 * Clients come back at once. Those on a stream try a WebSocket only when `look` is called.
 */
export function holdTime(t: TestContext) {
  const held: (() => void)[] = []
  const original = globalThis.setTimeout
  t.mock.method(Math, 'random', () => 0)
  t.mock.method(globalThis, 'setTimeout', ((run: () => void, ms: number, ...args: unknown[]) => {
    if (!ms || ms % LOOK !== 0) return original(run, ms, ...(args as []))
    held.push(run)
    return {}
  }) as never)
  const look = () => {
    for (const run of held.splice(0)) run()
  }
  return { look, held }
}

import { type ClientOptions, WebSocket } from 'ws'
import type { Welcome } from '../../src/protocol/messages.ts'
import type { TestMessage } from '../../src/testing.ts'
import type { Cleanup } from './processes.ts'
import { PATIENCE, within } from './waiting.ts'

/** A plain WebSocket that keeps what it is sent. */
export class Listener {
  readonly socket: WebSocket
  readonly messages: TestMessage[] = []
  /** The same as text. */
  readonly texts: string[] = []
  pings = 0
  readonly #closed: Promise<{ code: number; reason: string }>
  #welcome: Welcome | undefined
  #taken = 0

  constructor(t: Cleanup, url: string, options: ClientOptions = {}) {
    this.socket = new WebSocket(url, options)
    this.socket.on('message', data => {
      this.texts.push(String(data))
      this.messages.push(JSON.parse(String(data)))
      this.socket.emit('change')
    })
    this.socket.on('ping', () => {
      this.pings++
      this.socket.emit('change')
    })
    this.socket.on('error', error => {
      this.socket.emit('failed', error)
    })
    this.#closed = new Promise(resolve => {
      this.socket.on('close', (code, reason) => {
        resolve({ code, reason: String(reason) })
        this.socket.emit('failed', new Error(`closed: ${code} ${reason}`))
      })
    })
    t.after(() => this.socket.terminate())
  }

  get closed(): Promise<{ code: number; reason: string }> {
    return within(this.#closed, () => `the end of the connection; came: ${this.texts.slice(-5).join(' ')}`)
  }

  get welcome(): Welcome {
    return this.#welcome!
  }

  /** Resolves as soon as `check` is true; looks again whenever something came. Rejects when the socket closes. */
  async until(check: () => boolean, what: string, milliseconds = PATIENCE): Promise<void> {
    if (check()) return
    let end = () => {}
    const reached = new Promise<void>((resolve, reject) => {
      const look = () => check() && resolve()
      this.socket.on('change', look).on('failed', reject)
      end = () => this.socket.off('change', look).off('failed', reject)
    })
    try {
      await within(reached, () => `${what}; came: ${this.texts.slice(-5).join(' ')}`, milliseconds)
    } finally {
      end()
    }
  }

  /** The next message of `type` that has not been taken; those before it are passed over. */
  async next(type: string): Promise<TestMessage> {
    const find = () => this.messages.findIndex((message, index) => index >= this.#taken && message.type === type)
    await this.until(() => find() >= 0, type)
    this.#taken = find() + 1
    return this.messages[this.#taken - 1]!
  }

  send(type: string, payload?: unknown, ref?: number): void {
    this.socket.send(JSON.stringify({ type, payload, ref }))
  }

  /** What the node knows of this connection. */
  async whoami(): Promise<{ ip: string; protocol: string; host: string }> {
    this.send('whoami', {}, 1)
    return (await this.next('reply')).payload as never
  }

  async welcomed(): Promise<this> {
    this.#welcome = (await this.next('welcome')).payload as Welcome
    return this
  }
}

/** Connects and waits for `welcome`. */
export function listenTo(t: Cleanup, url: string, options: ClientOptions = {}): Promise<Listener> {
  return new Listener(t, url, options).welcomed()
}

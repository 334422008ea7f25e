import { get, type IncomingMessage, request as makeRequest, type OutgoingHttpHeaders } from 'node:http'
import type { Welcome } from '../../src/protocol/messages.ts'
import type { TestMessage } from '../../src/testing.ts'
import type { Cleanup } from './processes.ts'
import { Inbox, once, PATIENCE, until, within } from './waiting.ts'

export interface StreamEvent {
  event: string
  data: string
}

/** An event stream as the HTML standard reads one (9.2.6), and what an EventSource would know. */
export class EventReader {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly events = new Inbox<StreamEvent>('an event of the stream')
  /** Everything that came. */
  text = ''
  comments = 0
  /** What an EventSource sends as Last-Event-ID when it comes back after everything that has come so far. */
  lastEventId = ''
  /** The same after the last message that was taken. */
  takenId = ''
  retry: number | undefined
  readonly response: IncomingMessage
  /** What an EventSource holds when it gives an event to its page. */
  readonly #ids = new WeakMap<StreamEvent, string>()
  readonly #ended: Promise<unknown>
  #rest = ''
  #next = { event: 'message', data: [] as string[], id: '' }

  constructor(response: IncomingMessage) {
    this.response = response
    this.status = response.statusCode!
    this.headers = response.headers
    this.#ended = new Promise(resolve => response.once('close', resolve))
    response.setEncoding('utf8').on('error', () => {})
    response.on('data', (chunk: string) => this.#read(chunk))
  }

  #read(chunk: string): void {
    this.text += chunk
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop()!
    for (const line of lines) this.#readLine(line)
  }

  #readLine(line: string): void {
    if (line === '') return this.#dispatch()
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!
    if (field === '') this.comments++
    else if (field === 'data') this.#next.data.push(value!)
    else if (field === 'event') this.#next.event = value!
    else if (field === 'id') this.#next.id = value!
    else if (field === 'retry' && /^\d+$/.test(value!)) this.retry = Number(value)
  }

  #dispatch(): void {
    const { event, data, id } = this.#next
    this.#next = { event: 'message', data: [], id }
    if (data.length === 0) return
    this.lastEventId = id
    const taken = { event, data: data.join('\n') }
    this.#ids.set(taken, id)
    this.events.put(taken)
  }

  /** The next message of the server, whatever its type. */
  async message(): Promise<TestMessage> {
    const taken = await this.events.take()
    const { event, data } = taken
    this.takenId = this.#ids.get(taken)!
    if (event !== 'message') throw new Error(`no message but the event ${event}: ${data}`)
    return JSON.parse(data)
  }

  /** The next message of `type`; those before it are passed over. */
  async next(type: string): Promise<TestMessage> {
    for (;;) {
      const message = await this.message()
      if (message.type === type) return message
    }
  }

  async welcomed(): Promise<Welcome> {
    return (await this.next('welcome')).payload as Welcome
  }

  /** How the server ended the stream; messages before it are passed over. */
  async closed(): Promise<{ code: number; reason: string }> {
    for (;;) {
      const { event, data } = await this.events.take()
      if (event !== 'close') continue
      await this.ended
      return JSON.parse(data)
    }
  }

  get ended(): Promise<unknown> {
    return within(this.#ended, 'the end of the stream')
  }

  /** Until the server has said `count` comments. */
  commented(count: number): Promise<void> {
    return until(
      () => this.comments >= count,
      () => `${count} comments, only ${this.comments}`,
    )
  }

  /** The JSON of an answer that is no stream. */
  async refusal(): Promise<{ status: number; code: string; message: string }> {
    await this.ended
    return { status: this.status, ...JSON.parse(this.text) }
  }

  leave(): void {
    this.response.destroy()
  }
}

/** Resolves with the answer to a GET: a stream, or a refusal. */
export async function openStream(
  t: Cleanup,
  port: number,
  query = '',
  headers: OutgoingHttpHeaders = {},
): Promise<EventReader> {
  const request = get({ host: '127.0.0.1', port, path: `/ws/-/events${query}`, headers, agent: false })
  request.on('error', () => {})
  t.after(() => request.destroy())
  const [response] = await once(request, 'response', PATIENCE)
  return new EventReader(response)
}

/** Resolves with the answer to a POST. `body`: an object, or the text itself. */
export async function postStream(
  t: Cleanup,
  port: number,
  body: object | string,
  headers: OutgoingHttpHeaders = { 'content-type': 'application/json' },
): Promise<EventReader> {
  const request = makeRequest({ host: '127.0.0.1', port, path: '/ws/-/events', method: 'POST', headers, agent: false })
  request.on('error', () => {})
  t.after(() => request.destroy())
  request.end(typeof body === 'string' ? body : JSON.stringify(body))
  const [response] = await once(request, 'response', PATIENCE)
  return new EventReader(response)
}

export const topicsOf = (...topics: string[]): string =>
  `?${new URLSearchParams(topics.map(topic => ['topics', topic])).toString()}`

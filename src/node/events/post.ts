import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'

export interface Answer {
  status: number
  text: string
}

/** Why there is no answer. */
export class CallFailure extends Error {
  readonly reason: 'timeout' | 'network' | 'answer'
  /** False if the backend has certainly not got the call. */
  readonly wasSent: boolean

  constructor(reason: CallFailure['reason'], wasSent: boolean, message: string, cause?: unknown) {
    super(message, { cause })
    this.reason = reason
    this.wasSent = wasSent
  }
}

/**
 * An idle connection is closed after this many milliseconds, earlier than servers do it: one that they close while a call is
 * on its way costs that call its answer.
 */
const IDLE = 4000

export interface Call {
  body: Buffer
  headers: Record<string, string>
  milliseconds: number
}

/** POSTs to one address over connections that stay open. Follows no redirect: nobody may name another address. */
export class Poster {
  readonly #url: URL
  readonly #agent: HttpAgent
  readonly #maxAnswer: number
  #isClosed = false

  constructor(url: URL, maxAnswer: number, maxIdle: number) {
    const options = { keepAlive: true, maxFreeSockets: maxIdle, timeout: IDLE }
    this.#url = url
    this.#agent = url.protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options)
    this.#maxAnswer = maxAnswer
  }

  /** Rejects with a CallFailure. */
  async post(call: Call): Promise<Answer> {
    const deadline = performance.now() + call.milliseconds
    const first = new Attempt(this.#url, this.#agent, call)
    try {
      return await first.answer(this.#maxAnswer)
    } catch (error) {
      const milliseconds = deadline - performance.now()
      // The server closed the connection while it was idle, and did not see the call.
      if (!first.wasIdle || this.#isClosed || milliseconds <= 0) throw error
      return await new Attempt(this.#url, this.#agent, { ...call, milliseconds }).answer(this.#maxAnswer)
    }
  }

  close(): void {
    this.#isClosed = true
    this.#agent.destroy()
  }
}

class Attempt {
  readonly #request
  readonly #timer: NodeJS.Timeout
  readonly #body: Buffer
  #isLate = false
  #isConnected = false
  #hasAnswer = false
  #code: unknown

  constructor(url: URL, agent: HttpAgent, { body, headers, milliseconds }: Call) {
    const isSecure = url.protocol === 'https:'
    this.#body = body
    this.#request = (isSecure ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      agent,
      headers: { ...headers, 'content-length': String(body.length) },
    })
    this.#request.once('socket', socket => {
      if (!socket.connecting) this.#isConnected = true
      else socket.once(isSecure ? 'secureConnect' : 'connect', () => this.#connected())
    })
    this.#timer = setTimeout(() => {
      this.#isLate = true
      this.#request.destroy()
    }, milliseconds)
  }

  #connected(): void {
    this.#isConnected = true
  }

  /** The call went out over a connection that had been idle, and the connection broke without a word. */
  get wasIdle(): boolean {
    const isReset = this.#code === 'ECONNRESET' || this.#code === 'EPIPE'
    return this.#request.reusedSocket && isReset && !this.#hasAnswer && !this.#isLate
  }

  async answer(maxBytes: number): Promise<Answer> {
    try {
      const response = await this.#response()
      this.#hasAnswer = true
      return { status: response.statusCode ?? 0, text: await textOf(response, maxBytes) }
    } catch (error) {
      this.#request.destroy()
      this.#code = (error as { code?: unknown }).code
      throw this.#failure(error)
    } finally {
      clearTimeout(this.#timer)
    }
  }

  #response(): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      // The listener stays: an error may come after the answer.
      this.#request.once('response', resolve).on('error', reject).end(this.#body)
    })
  }

  #failure(error: unknown): CallFailure {
    if (error instanceof CallFailure) return error
    const { message } = error as Error
    if (this.#isLate) return new CallFailure('timeout', this.#isConnected, 'no answer in time', error)
    return new CallFailure('network', this.#isConnected, message, error)
  }
}

async function textOf(response: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new CallFailure('answer', true, `the answer is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

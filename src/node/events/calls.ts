import type { BackendOptions } from '../../options/events.ts'
import type { Authentication } from '../../options/options.ts'
import { errors } from '../../protocol/errors.ts'
import type { EncodedEvent, EventSource, EventWriter } from '../../protocol/event.ts'
import { type Action, grantedActions } from '../../protocol/rights.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Backend, CallKind } from './backend.ts'
import type { Answer } from './post.ts'

/** What a backend is told of an upgrade request. */
export interface Upgrade {
  url: string
  headers: Readonly<Record<string, string | string[] | undefined>>
}

/** Queries of ours, which are no business of the backend; a ticket is a secret besides. */
const OWN_QUERIES = ['ticket', 'since']

const MAX_MESSAGE = 500
const CODE = /^[A-Za-z0-9_.:-]{1,64}$/

/** What a backend is asked: who connects, who may subscribe, what is the answer to a message. */
export class BackendCalls {
  readonly #backend: Backend
  readonly #writer: EventWriter
  readonly #headers: readonly string[]

  constructor(backend: Backend, writer: EventWriter, { headers }: BackendOptions) {
    this.#backend = backend
    this.#writer = writer
    this.#headers = headers.map(name => name.toLowerCase())
  }

  /** Stands in for `authenticate`. */
  async connect({ url, headers }: Upgrade): Promise<Authentication | null> {
    const [path] = url.split('?', 1)
    const query = url.slice(path!.length + 1)
    const passed = this.#headers.filter(name => headers[name] !== undefined).map(name => [name, headers[name]])
    const fields = { path, query: withoutOwn(query), headers: Object.fromEntries(passed) }
    const answer = await this.#backend.call('connect', this.#writer.call('connect', fields))
    if (isFine(answer)) return this.#read('connect', answer) as Authentication | null
    const { message } = refusalIn(answer)
    if (answer.status === 401) throw new errors.UNAUTHENTICATED(message ?? 'the backend did not accept the request')
    if (answer.status === 403) throw new errors.FORBIDDEN(message ?? 'the backend forbids it')
    throw this.#unusable('connect', answer)
  }

  /** Stands in for `authorize`. */
  async subscribe(
    { id, user, data }: EventSource & { data: unknown },
    topic: Topic,
    action: Action,
  ): Promise<readonly Action[]> {
    const body = this.#writer.call('subscribe', { connection: id, user, topic, action, data })
    const answer = await this.#backend.call('subscribe', body)
    if (answer.status === 401 || answer.status === 403) return []
    if (!isFine(answer)) throw this.#unusable('subscribe', answer)
    const { actions } = (this.#read('subscribe', answer) ?? {}) as { actions?: unknown }
    try {
      if (!Array.isArray(actions)) throw new TypeError('the answer has no list of actions')
      return grantedActions(actions)
    } catch (error) {
      throw this.#backend.failure('subscribe', 'answer', error as Error)
    }
  }

  /** The reply as JSON text: the client gets it as the backend wrote it. */
  async message({ json }: EncodedEvent): Promise<string> {
    const answer = await this.#backend.call('message', json)
    if (isFine(answer)) {
      if (answer.text.trim() === '') return 'null'
      this.#read('message', answer)
      return answer.text.trim()
    }
    const { status } = answer
    if (status < 400) throw this.#unusable('message', answer)
    if (status >= 500) {
      void this.#unusable('message', answer)
      throw new errors.HANDLER()
    }
    const { code = 'PUSH_ERR_HANDLER', message = `the backend refused the message with ${status}` } = refusalIn(answer)
    throw Object.assign(new Error(message), { code, statusCode: status })
  }

  #read(kind: CallKind, { text }: Answer): unknown {
    try {
      return JSON.parse(text)
    } catch {
      throw this.#backend.failure(kind, 'answer', new Error('the answer is not JSON'))
    }
  }

  #unusable(kind: CallKind, { status }: Answer) {
    const hint = status >= 300 && status < 400 ? ', and redirects are not followed' : ''
    return this.#backend.failure(kind, 'status', new Error(`the answer has the status ${status}${hint}`))
  }
}

function isFine({ status }: Answer): boolean {
  return status >= 200 && status < 300
}

/** The error that a backend answers with; any page of a proxy may stand there instead. */
function refusalIn({ text }: Answer): { code?: string; message?: string } {
  try {
    const { code, message } = (JSON.parse(text) ?? {}) as { code?: unknown; message?: unknown }
    return {
      ...(typeof code === 'string' && CODE.test(code) && { code }),
      ...(typeof message === 'string' && message !== '' && { message: message.slice(0, MAX_MESSAGE) }),
    }
  } catch {
    return {}
  }
}

function withoutOwn(query: string): string {
  const parameters = new URLSearchParams(query)
  for (const name of OWN_QUERIES) parameters.delete(name)
  return parameters.toString()
}

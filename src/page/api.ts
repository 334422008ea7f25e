import { fieldsOf, textOf } from './reports.ts'

/** An answer that is an error. */
export class Refused extends Error {
  readonly status: number
  /** How long to wait before the next call, in milliseconds. */
  readonly wait: number

  constructor(status: number, message: string, wait: number) {
    super(message)
    this.status = status
    this.wait = wait
  }
}

/** No answer came, or not in time. */
export class NoAnswer extends Error {}

/** Nodes wait for each other no longer than a few seconds. */
const TIMEOUT = 15_000

/** No `Retry-After` keeps the page waiting for longer. */
const MAX_WAIT = 60_000

/** More than any node answers: what else comes at this address is not read. */
const MAX_BYTES = 64 * 1024 * 1024

/** What the server has after this page: `…/push/nodes` for `…/push/page`, whatever a proxy puts in front of both. */
export class Api {
  readonly #base: URL
  readonly #publishing: URL
  readonly #header: { name: string; scheme: string }
  /** The key is nowhere but here, and in sessionStorage if its owner asked for it. */
  #key: string | undefined

  /** `publishing`: where `POST <api.path>` is, seen from this page. `isOurs`: whether a key is one of `api.keys`. */
  constructor(page: string, publishing: string, isOurs: boolean) {
    // Authorization may be that of a proxy in front, which the browser sends by itself.
    this.#header = isOurs ? { name: 'x-push-key', scheme: '' } : { name: 'authorization', scheme: 'Bearer ' }
    this.#base = new URL('./', page)
    this.#publishing = new URL(publishing, this.#base)
    // A folder without its slash can only be named by its last part, which a proxy may have changed.
    if (publishing === '') this.#publishing.pathname = this.#base.pathname.replace(/\/$/, '')
  }

  useKey(key: string | undefined): void {
    this.#key = key
  }

  get(name: string, query: Readonly<Record<string, string>>): Promise<unknown> {
    const url = new URL(name, this.#base)
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value)
    return this.#call(url, {})
  }

  publish(body: unknown): Promise<unknown> {
    const headers = { 'content-type': 'application/json' }
    return this.#call(this.#publishing, { method: 'POST', headers, body: JSON.stringify(body) })
  }

  #proof(): Record<string, string> {
    const { name, scheme } = this.#header
    return this.#key === undefined ? {} : { [name]: scheme + headerText(this.#key) }
  }

  async #call(url: URL, init: RequestInit): Promise<unknown> {
    let response: Response
    let text: string
    try {
      response = await fetch(url, {
        ...init,
        headers: { ...(init.headers as Record<string, string>), ...this.#proof() },
        cache: 'no-store',
        credentials: 'same-origin',
        // A key that went along with a redirect would be in the hands of somebody else.
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        signal: AbortSignal.timeout(TIMEOUT),
      })
      if (Number(response.headers.get('content-length') ?? 0) > MAX_BYTES) throw new Error('too large')
      text = await response.text()
    } catch (cause) {
      throw new NoAnswer('the server does not answer', { cause })
    }
    const answer = parse(text)
    if (response.ok && answer !== undefined) return answer
    throw refusalOf(response, answer)
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function refusalOf({ status, ok, headers }: Response, answer: unknown): Refused {
  const said = textOf(fieldsOf(answer).message)
  const seconds = Number(headers.get('retry-after'))
  const wait = seconds > 0 ? Math.min(seconds * 1000, MAX_WAIT) : 0
  const unknown = ok ? 'the answer is no JSON: does a proxy lead here?' : `the server answered ${status}`
  return new Refused(status, said || unknown, wait)
}

/** A header has one character for each byte of the key. */
function headerText(key: string): string {
  return String.fromCharCode(...new TextEncoder().encode(key))
}

/** What is shown to people. */
export function sentenceOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return `${message.charAt(0).toUpperCase()}${message.slice(1).replace(/\.$/, '')}.`
}

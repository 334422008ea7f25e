import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { KEY } from './app.ts'
import { path } from './processes.ts'
import { within } from './waiting.ts'

interface Operation {
  requestBody?: unknown
  responses: Record<string, unknown>
}

interface Document {
  paths: Record<string, Record<string, Operation>>
}

const openApi = JSON.parse(readFileSync(path('docs/openapi.json'), 'utf8')) as Document
const ajv = new Ajv2020({ strict: false, allErrors: true })
ajv.addSchema(openApi, 'openapi')

/** `pointer`: the way to a schema in the document. */
function matches(value: unknown, pointer: readonly string[]): void {
  const steps = pointer.map(step => step.replaceAll('~', '~0').replaceAll('/', '~1'))
  const check = ajv.getSchema(`openapi#/${steps.map(encodeURIComponent).join('/')}`)
  assert.ok(check, `docs/openapi.json has nothing at ${pointer.join(' ')}`)
  assert.ok(check(value), `${pointer.join(' ')}: ${JSON.stringify(value)} ${ajv.errorsText(check.errors)}`)
}

const JSON_CONTENT = ['content', 'application/json', 'schema']

export interface Answer {
  status: number
  headers: Headers
  body: Record<string, unknown> & { code?: string; message?: string }
}

export interface ApiRequest {
  method?: string
  /** Text and bytes are sent as they are, anything else as JSON. */
  body?: unknown
  headers?: Record<string, string>
}

/** Calls the push API. Whatever it answers must be what docs/openapi.json says, and what it accepts as well. */
export async function callApi(port: number, path: string, request: ApiRequest = {}): Promise<Answer> {
  const { body, headers } = request
  const method = request.method ?? (body === undefined ? 'GET' : 'POST')
  const isRaw = body === undefined || typeof body === 'string' || body instanceof Buffer
  const calling = fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${KEY}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: isRaw ? (body as string) : JSON.stringify(body) }),
  })
  const response = await within(calling, `the answer to ${method} ${path}`)
  const text = await response.text()
  assert.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
  assert.equal(response.headers.get('cache-control'), 'no-store')
  if (method === 'HEAD') return { status: response.status, headers: response.headers, body: {} }
  const answer = JSON.parse(text) as Answer['body']
  judge(method.toLowerCase(), path.split('?', 1)[0]!, { status: response.status, sent: body, answer })
  return { status: response.status, headers: response.headers, body: answer }
}

/** Throws unless docs/openapi.json allows this answer to what was `sent`. */
export function judge(
  method: string,
  path: string,
  { status, sent, answer }: { status: number; sent: unknown; answer: unknown },
): void {
  const operation = openApi.paths[path]?.[method]
  if (!operation) {
    assert.ok([401, 404, 405].includes(status), `${method} ${path} is not in docs/openapi.json: ${status}`)
    return matches(answer, ['components', 'schemas', 'Error'])
  }
  const at = ['paths', path, method]
  assert.ok(operation.responses[status], `docs/openapi.json has no ${status} for ${method} ${path}`)
  matches(answer, [...at, 'responses', `${status}`, ...JSON_CONTENT])
  if (status !== 200 || !operation.requestBody) return
  // What failed in a batch need not be what the document asks for.
  const isAccepted = [answer].flat().every(item => !(typeof item === 'object' && item !== null && 'error' in item))
  if (isAccepted) matches(typeof sent === 'string' ? JSON.parse(sent) : sent, [...at, 'requestBody', ...JSON_CONTENT])
}

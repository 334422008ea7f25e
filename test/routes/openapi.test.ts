import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Compile } from 'typebox/compile'
import { buildOpenApi, OPENAPI_FILE, openApiText } from '../../scripts/openapi.ts'
import { API_ROUTES } from '../../src/routes/api-routes.ts'
import * as schemas from '../../src/routes/api-schemas.ts'
import { judge } from '../helpers/api.ts'
import { within } from '../helpers/waiting.ts'

interface Operation {
  operationId: string
  responses: Record<string, unknown>
  requestBody?: { content: Record<string, { schema: { examples?: unknown[] } }> }
}

type Paths = Record<string, Record<string, Operation>>

test('docs/openapi.json is what the schemas say: else run npm run build:openapi', () => {
  assert.equal(readFileSync(OPENAPI_FILE, 'utf8'), openApiText())
})

test('docs/openapi.json is a document of OpenAPI 3.1', async () => {
  const validator = new Validator()
  const { valid, errors } = await within(validator.validate(OPENAPI_FILE), 'the verdict of the validator')
  assert.equal(valid, true, JSON.stringify(errors))
  assert.equal(validator.version, '3.1')
  const broken = { ...buildOpenApi(), paths: { push: {} } }
  assert.equal((await within(new Validator().validate(broken), 'the verdict of the validator')).valid, false)
})

test('every route is in it, with an operation of its own', () => {
  const { paths } = buildOpenApi() as { paths: Paths }
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({ method: method.toUpperCase(), path, operationId })),
  )
  assert.deepEqual(
    operations.map(({ method, path }) => `${method} ${path}`),
    API_ROUTES.map(({ method, path }) => `${method} /push${path}`),
  )
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
})

test('no schema allows what it does not name, and the examples match', () => {
  const open: string[] = []
  const walk = (schema: unknown, at: string): void => {
    if (typeof schema !== 'object' || schema === null) return
    const { type, properties, additionalProperties } = schema as Record<string, unknown>
    if (type === 'object' && properties && additionalProperties !== false) open.push(at)
    for (const [key, value] of Object.entries(schema)) walk(value, `${at}/${key}`)
  }
  walk(buildOpenApi(), '')
  assert.deepEqual(open, [])
  let examples = 0
  for (const { body } of API_ROUTES) {
    for (const example of (body as { examples?: unknown[] } | undefined)?.examples ?? []) {
      assert.ok(Compile(body!).Check(example), JSON.stringify(example))
      examples++
    }
  }
  assert.ok(examples >= 4)
  assert.ok(!Compile(schemas.ErrorSchema).Check({ statusCode: 400, error: 'Bad Request', message: 'x' }))
})

test('what the document does not allow is noticed in every test that calls the API', () => {
  const result = { topic: 'user:1', nodes: 1, delivered: 1, skipped: 0, complete: true }
  const failure = { statusCode: 400, code: 'PUSH_ERR_TOPIC', error: 'Bad Request', message: 'x' }
  const sent = { target: 'user:1' }
  const close = (status: number, answer: unknown, body: unknown = sent) =>
    judge('post', '/push/close', { status, sent: body, answer })
  close(200, result)
  close(400, failure)
  assert.throws(() => close(200, { ...result, more: 1 }), /must NOT have additional properties/)
  assert.throws(() => close(200, { topic: 'user:1' }), /must have required property 'nodes'/)
  assert.throws(() => close(200, { ...result, delivered: -1 }), /must be >= 0/)
  assert.throws(() => close(200, result, { user: '1' }), /requestBody.*must have required property 'target'/)
  assert.throws(() => close(400, { ...failure, code: undefined }), /data\/code|required property 'code'/)
  assert.throws(() => close(418, failure), /has no 418 for post \/push\/close/)
  assert.throws(() => judge('get', '/push/none', { status: 200, sent: undefined, answer: {} }), /is not in docs/)
})

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Compile } from 'typebox/compile'
import { buildOpenApi, OPENAPI_FILE, openApiText } from '../../scripts/openapi.ts'
import { API_ROUTES } from '../../src/routes/api-routes.ts'
import * as schemas from '../../src/routes/api-schemas.ts'
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

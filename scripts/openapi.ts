/** The HTTP push API as an OpenAPI document, from its table of routes and their schemas. */
import { readFileSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'
import { fileURLToPath } from 'node:url'
import type { TObject, TSchema } from 'typebox'
import { API_ROUTES, type ApiRoute } from '../src/routes/api-routes.ts'
import * as schemas from '../src/routes/api-schemas.ts'

export const OPENAPI_FILE = fileURLToPath(new URL('../docs/openapi.json', import.meta.url))

/** What stands by its name in `components`. */
const NAMED: Record<string, TSchema> = {
  Publication: schemas.PublicationBody,
  Result: schemas.ResultSchema,
  Failure: schemas.FailureSchema,
  Status: schemas.StatusAnswer,
  Error: schemas.ErrorSchema,
}

const names = new Map(Object.entries(NAMED).map(([name, schema]) => [schema as unknown, name]))

/** Of every route, by its status. */
const FAILURES: Record<number, string> = {
  400: 'the call is wrong: the message says why',
  401: 'no valid key',
  403: 'not with this key',
  404: 'nothing is there',
  405: 'not with this method: `Allow` has those that are possible',
  413: 'too much at once',
  415: 'the Content-Type is not JSON',
  429: 'too many requests with this key, or the rate limit of the application: `Retry-After` says when to come back',
  500: 'it failed: the cause is in the log',
  501: 'this Redis cannot record, or no topic has presence',
  503: 'nothing can be done now, or nobody knows whether it was done: the code says which',
}

const ofSchema = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(ofSchema)
  if (typeof schema !== 'object' || schema === null) return schema
  const name = names.get(schema)
  return name ? { $ref: `#/components/schemas/${name}` } : inside(schema)
}

const inside = (schema: object) => Object.fromEntries(Object.entries(schema).map(([key, it]) => [key, ofSchema(it)]))

const json = (schema: unknown) => ({ 'application/json': { schema: ofSchema(schema) } })

function failure(status: number) {
  return {
    description: FAILURES[status],
    ...(status === 405 && { headers: { Allow: { schema: { type: 'string' } } } }),
    content: json(schemas.ErrorSchema),
  }
}

function parametersOf(query: TObject) {
  return Object.entries(query.properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: (query.required as string[] | undefined)?.includes(name) ?? false,
    schema: ofSchema(schema),
  }))
}

function operation({ method, path, summary, needs, query, body, answer }: ApiRoute) {
  const statuses = Object.keys(FAILURES).map(Number)
  const failures = statuses.filter(status => method === 'POST' || ![413, 415].includes(status))
  return {
    operationId: path === '' ? 'publish' : path.slice(1).replaceAll('/', '-'),
    summary,
    description: `A key that has not all rights needs ${needs}.`,
    ...(query && { parameters: parametersOf(query) }),
    ...(body && { requestBody: { required: true, content: json(body) } }),
    responses: {
      200: { description: STATUS_CODES[200], content: json(answer) },
      ...Object.fromEntries(failures.map(status => [status, failure(status)])),
    },
  }
}

export function buildOpenApi(): object {
  const { name, version, license } = JSON.parse(
    readFileSync(fileURLToPath(new URL('../package.json', import.meta.url)), 'utf8'),
  ) as Record<string, string>
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of API_ROUTES) {
    paths[`/push${route.path}`] = { ...paths[`/push${route.path}`], [route.method.toLowerCase()]: operation(route) }
  }
  return {
    openapi: '3.1.1',
    info: {
      title: `${name}: the HTTP push API`,
      version,
      description: 'The option `api` opens it; `api.path` is where it begins, `/push` if nothing else is said.',
      license: { name: license, identifier: license },
    },
    security: [{ bearer: [] }, { key: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        key: { type: 'apiKey', in: 'header', name: 'X-Push-Key' },
      },
      schemas: Object.fromEntries(Object.entries(NAMED).map(([name, schema]) => [name, inside(schema)])),
    },
  }
}

export const openApiText = (): string => `${JSON.stringify(buildOpenApi(), null, 2)}\n`

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errors, isPushError, type PushError } from '../../src/protocol/errors.ts'

const STATUS = {
  OPTIONS: 500,
  TOPIC: 400,
  TYPE: 400,
  RESERVED_TYPE: 400,
  UNKNOWN_KEY: 400,
  FIELD: 400,
  JSON: 400,
  SCHEMA: 400,
  TOO_LARGE: 413,
  CONTENT_TYPE: 415,
  BAD_MESSAGE: 400,
  UNKNOWN_TYPE: 400,
  NO_BINARY: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD: 405,
  ORIGIN: 403,
  UNSUBSCRIBED: 409,
  INTERNAL: 500,
  UPGRADE_REQUIRED: 426,
  LIMIT: 429,
  RATE: 429,
  USER_CONNECTIONS: 429,
  ADDRESS_CONNECTIONS: 429,
  ADDRESS_UPGRADES: 429,
  HANDLER: 500,
  UNWRITABLE: 500,
  UNSUPPORTED: 501,
  FULL: 503,
  UPGRADES: 503,
  PENDING_UPGRADES: 503,
  DRAINING: 503,
  CLOSED: 503,
  BUSY: 503,
  BROKER_AWAY: 503,
  UNCONFIRMED: 503,
  BACKEND_AWAY: 503,
  BACKEND_UNCONFIRMED: 503,
  TIMEOUT: 504,
} satisfies Record<keyof typeof errors, number>

const made = Object.entries(errors).map(
  ([name, Type]) => [name, new (Type as new (what: string) => PushError)('WHAT')] as const,
)

for (const [name, error] of made) {
  test(`${error.code} has its status and is recognised`, () => {
    assert.equal(error.code, `PUSH_ERR_${name}`)
    assert.equal(error.statusCode, STATUS[name as keyof typeof STATUS])
    assert.equal(isPushError(error), true)
    assert.ok(error instanceof Error)
    assert.ok(error.message.length > 0)
    assert.equal(error.message.includes('%s'), false)
  })
}

test('codes are unique', () => {
  const codes = made.map(([, { code }]) => code)
  assert.equal(new Set(codes).size, codes.length)
})

test('what went wrong is part of the message, per cent signs and all', () => {
  assert.equal(new errors.TOPIC('no topic').message, 'no topic')
  assert.equal(new errors.RESERVED_TYPE('ping').message, 'type "ping" is reserved for the protocol: choose another')
  assert.equal(new errors.OPTIONS('bad').message, 'fastify-push-bridge: bad')
  assert.equal(new errors.TOPIC('100 %s of %d %').message, '100 %s of %d %')
})

test('the cause stays with the error', () => {
  const cause = new Error('why')
  assert.equal(new errors.UNCONFIRMED('lost', { cause }).cause, cause)
  assert.equal(new errors.BROKER_AWAY('away', { cause: undefined }).message, 'away')
})

test('wrong options are a TypeError', () => {
  assert.ok(new errors.OPTIONS('x') instanceof TypeError)
})

test('other errors are not ours', () => {
  const others = [
    new Error('x'),
    Object.assign(new Error('x'), { code: 'ECONNREFUSED' }),
    { code: 'PUSH_ERR_TOPIC' },
    null,
    undefined,
    'PUSH_ERR_TOPIC',
  ]
  for (const other of others) assert.equal(isPushError(other), false)
})

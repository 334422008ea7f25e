import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bodyOf, isDeadLetter } from '../../../src/ingress/rabbitmq/body.ts'

const message = (body: unknown, contentType?: string, contentEncoding?: string) => ({
  body,
  contentType,
  contentEncoding,
  exchange: '',
  routingKey: '',
})

test('bytes and text are what they were', () => {
  const bytes = Buffer.from([0xff, 1])
  assert.equal(bodyOf(message(bytes)), bytes)
  assert.equal(bodyOf(message(bytes, 'application/json')), bytes, 'broken JSON, which the library leaves alone')
  assert.equal(bodyOf(message('{"a":1}', 'text/plain')), '{"a":1}')
})

test('what the library has decoded is JSON again, also a string', () => {
  fc.assert(
    fc.property(fc.jsonValue(), value => {
      const decoded = JSON.parse(JSON.stringify(value))
      assert.deepEqual(JSON.parse(bodyOf(message(decoded, 'application/json')) as string), decoded)
    }),
  )
  assert.equal(bodyOf(message('text', 'application/json')), '"text"')
})

test('what nests too deep to be written is refused in words', () => {
  const deep = JSON.parse('['.repeat(200_000) + ']'.repeat(200_000))
  const body = bodyOf(message(deep, 'application/json'))
  // How deep JSON.stringify can go differs from one Node to the next: 26 writes this, and 24 does not.
  if (isDeadLetter(body)) assert.equal(body.code, 'PUSH_ERR_JSON')
  else assert.equal(String(body), `${'['.repeat(200_000)}${']'.repeat(200_000)}`)
  assert.equal(isDeadLetter(Buffer.from('a')), false)
})

test('whatever a queue delivers has a body, or a reason why it has none', () => {
  const bytes = fc.uint8Array().map(it => Buffer.from(it))
  // The library decodes JSON that is not encoded otherwise, and leaves it alone if it is broken.
  const delivered = fc.oneof(
    fc.record({
      body: fc.oneof(bytes, fc.jsonValue(), fc.constantFrom<unknown>(null, '', 0, false)),
      type: fc.constant('application/json'),
    }),
    fc.record({
      body: fc.oneof(bytes, fc.string()),
      type: fc.constantFrom('text/plain', 'application/octet-stream', undefined),
    }),
  )
  fc.assert(
    fc.property(delivered, ({ body, type }) => {
      const given = bodyOf(message(body, type))
      assert.ok(isDeadLetter(given) ? given.reason.length > 0 : Buffer.isBuffer(given) || typeof given === 'string')
    }),
  )
})

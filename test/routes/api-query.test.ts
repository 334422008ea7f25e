import assert from 'node:assert/strict'
import { test } from 'node:test'
import { queryOf } from '../../src/routes/api-query.ts'

const strict = { isStrict: true }

test('parameters that a route names, decoded, as text', () => {
  const known = ['topic', 'last']
  assert.deepEqual(queryOf('/push/x', known, strict), {})
  assert.deepEqual(queryOf('/push/x?', known, strict), {})
  const read = queryOf('/push/x?topic=channel%3A%C3%BC+b&last=10', known, strict)
  assert.deepEqual(read, { topic: 'channel:ü b', last: '10' })
  assert.deepEqual(queryOf('/push/x?topic=a?b&last=%zz', known, strict), { topic: 'a?b', last: '%zz' })
})

test('what a route does not name is refused, or left to the guard of the host', () => {
  const known = ['topic']
  assert.throws(() => queryOf('/x?tpic=a', known, strict), {
    code: 'PUSH_ERR_UNKNOWN_KEY',
    message: 'in the URL: unknown key "tpic": did you mean "topic"?',
  })
  assert.throws(() => queryOf('/x?a', [], strict), { message: 'this route takes no parameters in the URL' })
  assert.throws(() => queryOf('/x?__proto__=a', known, strict), { code: 'PUSH_ERR_UNKNOWN_KEY' })
  for (const isStrict of [true, false]) {
    assert.throws(() => queryOf('/x?topic=a&topic=a', known, { isStrict }), {
      code: 'PUSH_ERR_FIELD',
      message: 'in the URL: topic is given twice',
    })
  }
  const read = queryOf('/x?token=t&token=u&__proto__=p&topic=a', known, { isStrict: false })
  assert.deepEqual(read, { topic: 'a' })
})

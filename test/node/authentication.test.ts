import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkAuthentication } from '../../src/node/authentication.ts'

test('equal lists of what is allowed are one list, which follows no list of the application', () => {
  const allow = ['channel:a']
  const [first, second] = [allow, [...allow]].map(list => checkAuthentication({ allow: list }, 'it').identity)
  assert.equal(first!.allow, second!.allow)
  allow.push('channel:b')
  assert.deepEqual(first!.allow, ['channel:a'])
  assert.deepEqual(checkAuthentication({ allow }, 'it').identity.allow, allow)
  assert.deepEqual(checkAuthentication({}, 'it').identity.allow, [])
  assert.throws(() => checkAuthentication({ allow: ['a'] }, 'it'), /it gave allow: "a" is no topic/)
})

test('what a right shows of the user is bounded, and follows no object of the application', () => {
  const info = { role: 'owner', since: new Date(0) }
  const right = { topics: ['channel:a'], actions: [], info }
  const { allow } = checkAuthentication({ allow: [right, { ...right, info: null }] }, 'it').identity
  info.role = 'guest'
  const plain = { topics: ['channel:a'], actions: [] }
  assert.deepEqual(allow, [{ ...plain, info: { role: 'owner', since: '1970-01-01T00:00:00.000Z' } }, plain])
  for (const [bad, problem] of [
    ['x'.repeat(1023), /^it gave an info of 1025 bytes: at most 1024 are shown to others$/],
    [() => {}, /^it gave an info that cannot be written as JSON$/],
    [1n, /^it gave an info that cannot be written as JSON: /],
  ] as const) {
    assert.throws(() => checkAuthentication({ allow: [{ ...right, info: bad }] }, 'it'), { message: problem })
  }
})

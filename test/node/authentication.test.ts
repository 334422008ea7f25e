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

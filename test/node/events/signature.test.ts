import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { sign } from '../../../src/node/events/signature.ts'

test('the signature is HMAC-SHA256 over seconds, dot and body, one for each secret', () => {
  const digest = (secret: string) => createHmac('sha256', secret).update('1700000000.{"a":"辣"}').digest('hex')
  const both = `t=1700000000,v1=${digest('new')},v1=${digest('old')}`
  assert.equal(sign(['new', 'old'], '{"a":"辣"}', 1_700_000_000_999), both)
  assert.equal(sign(['new', 'old'], Buffer.from('{"a":"辣"}'), 1_700_000_000_000), both)
})

test('the vector of another implementation', () => {
  // printf '1492774577.{}' | openssl dgst -sha256 -hmac 'whsec_test_secret_key'
  const [, time, digest] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(sign(['whsec_test_secret_key'], '{}', 1_492_774_577_000))!
  assert.equal(time, '1492774577')
  assert.equal(digest, '10a57ab52f55553131cf68214ff9b2f74c17a763f59f6e17899c6c6dd123991c')
})

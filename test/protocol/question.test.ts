import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  encodeQuestion,
  MAX_BUSIEST,
  MAX_QUESTION_BYTES,
  parseQuestion,
  type Question,
} from '../../src/protocol/question.ts'

const TOKEN = 'abcdefghijklmnop'

const parse = (text: string) => parseQuestion(Buffer.from(text))

const reasonIn = (text: string) => {
  const read = parse(text)
  return 'reason' in read ? [read.reason, read.token] : 'a question'
}

test('what is written is read', () => {
  const questions: Question[] = [
    { ask: 'nodes' },
    { ask: 'nodes', samples: true, topics: 20 },
    { ask: 'nodes', samples: false, topics: MAX_BUSIEST },
    { ask: 'explain', topic: 'user:ünï' },
  ]
  for (const question of questions) {
    const read = parse(encodeQuestion(question, TOKEN))
    assert.ok('question' in read)
    assert.equal(read.token, TOKEN)
    assert.deepEqual(JSON.parse(JSON.stringify(read.question)), question)
  }
})

test('what is wrong has one reason, and whoever waits is told if the token can be read', () => {
  const table: [text: string, reason: string, token?: string][] = [
    ['', 'json'],
    ['hello', 'json'],
    ['[1]', 'shape'],
    ['null', 'shape'],
    ['{}', 'field'],
    ['{"ask":"nodes"}', 'field'],
    ['{"ask":"nodes","token":"short"}', 'field'],
    [`{"ask":"nodes","token":"${TOKEN} "}`, 'field'],
    [`{"ask":"later","token":"${TOKEN}"}`, 'field', TOKEN],
    [`{"ask":"nodes","token":"${TOKEN}","sample":true}`, 'unknown_key', TOKEN],
    [`{"ask":"explain","token":"${TOKEN}","topic":"all","topics":1}`, 'unknown_key', TOKEN],
    [`{"ask":"nodes","token":"${TOKEN}","samples":1}`, 'field', TOKEN],
    [`{"ask":"nodes","token":"${TOKEN}","topics":${MAX_BUSIEST + 1}}`, 'field', TOKEN],
    [`{"ask":"nodes","token":"${TOKEN}","topics":-1}`, 'field', TOKEN],
    [`{"ask":"explain","token":"${TOKEN}"}`, 'field', TOKEN],
    [`{"ask":"explain","token":"${TOKEN}","topic":"orders"}`, 'field', TOKEN],
    [`{"ask":"nodes","token":"${TOKEN}","pad":"${'x'.repeat(MAX_QUESTION_BYTES)}"}`, 'too_large'],
  ]
  for (const [text, reason, token] of table) assert.deepEqual(reasonIn(text), [reason, token], text)
  assert.equal('reason' in parseQuestion(Buffer.from([0xff, 0xfe])) && 'json', 'json')
})

test('whatever comes, nothing is thrown', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 2000 }),
    fc.json().map(text => Buffer.from(text)),
    fc.record({ ask: fc.anything(), token: fc.anything(), topic: fc.anything() }).map(value => {
      const text = JSON.stringify({ ...value, token: TOKEN }, (_key, it) => (typeof it === 'bigint' ? `${it}` : it))
      return Buffer.from(text)
    }),
  )
  fc.assert(
    fc.property(anything, bytes => {
      const read = parseQuestion(bytes)
      assert.ok('reason' in read || read.question.ask === 'nodes' || read.question.ask === 'explain')
    }),
    { numRuns: 500 },
  )
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MAX_ANSWER_BYTES } from '../../../src/broker/inquiry.ts'
import type { Command } from '../../../src/broker/redis/commands.ts'
import { Names } from '../../../src/broker/redis/names.ts'
import { Questions } from '../../../src/broker/redis/questions.ts'
import { encodeQuestion, type Question } from '../../../src/protocol/question.ts'

function setUp(answer: (question: Question) => unknown[] = () => [{ ok: true }]) {
  const written: { key: string; answer: Record<string, unknown> }[] = []
  const refusals: string[] = []
  const questions = new Questions({
    node: 'n1',
    names: new Names('push:'),
    answers: answer,
    refused: reason => refusals.push(reason),
    write: (key, commands: Command[]) => {
      const [[, , text], ...more] = commands as [Command, ...Command[]]
      assert.deepEqual(more, [['EXPIRE', key, 10]])
      written.push({ key, answer: JSON.parse(String(text)) })
    },
  })
  const ask = (token: string, question: Question = { ask: 'nodes' }) =>
    questions.heard(Buffer.from(encodeQuestion(question, token)))
  return { questions, ask, written, refusals, hear: (text: string) => questions.heard(Buffer.from(text)) }
}

const token = (n: number) => `token-of-question-${n}`

test('a question is answered once, however often it comes: each link of a Cluster brings it', () => {
  const { ask, written, refusals } = setUp()
  for (let link = 0; link < 3; link++) ask(token(1))
  assert.deepEqual(written, [{ key: `push:answers:${token(1)}`, answer: { node: 'n1', answers: [{ ok: true }] } }])
  assert.deepEqual(refusals, [])
})

test('to its own question a node only says that it is there', () => {
  const { questions, ask, written } = setUp(() => assert.fail('asked again'))
  questions.expect(token(1))
  ask(token(1))
  questions.forget(token(1))
  assert.deepEqual(
    written.map(({ answer }) => answer),
    [{ node: 'n1' }],
  )
})

test('more than twenty questions in a second are not answered but counted, also those that are wrong', t => {
  t.mock.method(performance, 'now', () => 5000)
  const { ask, hear, written, refusals } = setUp()
  for (let n = 0; n < 30; n++) ask(token(n))
  assert.deepEqual([written.length, refusals.length, new Set(refusals)], [20, 10, new Set(['rate'])])
  hear(`{"ask":"nodes","token":"${token(99)}","more":1}`)
  assert.deepEqual([written.length, refusals.at(-1)], [20, 'rate'])
  t.mock.method(performance, 'now', () => 6000)
  ask(token(100))
  assert.equal(written.length, 21)
})

test('no flood makes a node forget what it has answered: the list of its answers would grow', t => {
  t.mock.method(performance, 'now', () => 5000)
  const { ask, written } = setUp()
  ask(token(0))
  for (let n = 1; n < 400; n++) ask(token(n))
  assert.equal(written.length, 20)
  t.mock.method(performance, 'now', () => 6000)
  ask(token(0))
  assert.equal(written.length, 20)
})

test('a flood is not even read', t => {
  t.mock.method(performance, 'now', () => 5000)
  const { hear, refusals } = setUp()
  for (let n = 0; n < 1500; n++) hear('hello')
  const counts = ['json', 'rate'].map(reason => refusals.filter(it => it === reason).length)
  assert.deepEqual(counts, [1000, 500])
})

test('what is wrong is counted under one reason; whoever can be told is told', () => {
  const { hear, written, refusals } = setUp()
  hear('hello')
  hear('x'.repeat(5000))
  assert.deepEqual([refusals, written.length], [['json', 'too_large'], 0])
  hear(`{"ask":"when","token":"${token(1)}"}`)
  assert.deepEqual(refusals, ['json', 'too_large', 'field'])
  const { refused } = written[0]!.answer as { refused: { reason: string } }
  assert.equal(refused.reason, 'field')
})

test('an answer that is too large is replaced by one that says so', () => {
  const { ask, written } = setUp(() => ['x'.repeat(MAX_ANSWER_BYTES)])
  ask(token(1))
  const { node, answers, refused } = written[0]!.answer as {
    node: string
    answers: unknown
    refused: { reason: string }
  }
  assert.deepEqual([node, answers, refused.reason], ['n1', undefined, 'too_large'])
})

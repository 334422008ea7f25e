import assert from 'node:assert/strict'
import { test } from 'node:test'
import { coversType, EventWriter, typePatternProblem } from '../../src/protocol/event.ts'

const newWriter = () => {
  let n = 0
  return new EventWriter('node1', () => ++n)
}

test('an event says what, when, where and whose', () => {
  const writer = newWriter()
  const { id, kind, json } = writer.event('disconnect', { id: 'c1', user: '42' }, { code: 1000, reason: '"' })
  const { time, ...rest } = JSON.parse(json)
  assert.deepEqual([id, kind], ['node1.1', 'disconnect'])
  const expected = { id, kind, node: 'node1', connection: 'c1', user: '42', code: 1000, reason: '"' }
  assert.deepEqual(rest, expected)
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000)
  const nobody = JSON.parse(writer.event('lost', null, { count: 1 }).json)
  assert.deepEqual([nobody.id, nobody.connection, nobody.user], ['node1.2', null, null])
})

test('only who it is is taken from a connection', () => {
  const connection = { id: 'c1', user: null, data: { token: 'secret' }, allow: ['all'] }
  assert.doesNotMatch(newWriter().event('connect', connection, {}).json, /secret|allow/)
})

test('a payload stands there as it was sent', () => {
  const payload = '{"n":12345678901234567890, "f":1.0,"u":"\\ud83d\\ude00"}'
  const writer = newWriter()
  const { json } = writer.message({ id: 'c1', user: '42' }, { type: 'chat.say', payload })
  assert.ok(json.endsWith(`,"type":"chat.say","payload":${payload}}`), json)
  assert.equal('data' in JSON.parse(json), false)
  const told = writer.message({ id: 'c1', user: '42' }, { type: 'a', payload: 'null', data: [1] })
  assert.deepEqual(JSON.parse(told.json).data, [1])
})

test('a batch holds events as they are, and a call has fields of its own', () => {
  const writer = newWriter()
  const events = [writer.event('connect', null, {}), writer.event('disconnect', null, {})]
  const batch = JSON.parse(writer.batch(events))
  assert.deepEqual([batch.id, batch.kind, batch.node], ['node1.3', 'events', 'node1'])
  assert.deepEqual(
    batch.events,
    events.map(({ json }) => JSON.parse(json)),
  )
  assert.equal(JSON.parse(writer.call('connect', { path: '/ws' })).path, '/ws')
})

test('which types are covered: never those of the protocol', () => {
  assert.ok(coversType(['order', 'chat.*'], 'chat.say') && coversType(['*'], 'a'))
  for (const type of ['chat', 'orders', 'push.x', 'welcome']) assert.ok(!coversType(['order', 'chat.*'], type), type)
  for (const type of ['push.x', 'welcome', 'ping']) assert.ok(!coversType(['*'], type), type)
  assert.ok(!coversType([], 'a'))
})

test('which patterns can be used', () => {
  for (const pattern of ['a', 'chat.*', '*', '*.said', 'a/b:c_d-e'])
    assert.equal(typePatternProblem(pattern), undefined)
  for (const pattern of ['', 'a b', 'ä', 'ping', 'push.*', 'push.typing', 'x'.repeat(129)])
    assert.match(typePatternProblem(pattern) ?? '', /^has "/, pattern)
})

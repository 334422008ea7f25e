import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HistoryRules, historyRuleProblem, rulesProblem } from '../../src/publish/history-rules.ts'

const one = { size: 1, ttl: 1 }

test('the first rule whose pattern fits decides, and connections are never recorded', () => {
  const rules = new HistoryRules({ 'channel:a.*': { size: 1, ttl: 1 }, 'channel:*': { size: 2, ttl: 2 }, '*': one })
  assert.deepEqual(rules.of('channel:a.b'), { size: 1, ttl: 1 })
  assert.deepEqual(rules.of('channel:b'), { size: 2, ttl: 2 })
  assert.deepEqual(rules.of('all'), one)
  assert.deepEqual(rules.of('user:1'), one)
  assert.equal(rules.of('connection:c'), undefined)
  assert.equal(new HistoryRules({ 'user:*': one }).of('channel:b'), undefined)
  assert.equal(new HistoryRules().of('all'), undefined)
})

test('the order of the rules is the order in which they were written, also for names that look like numbers', () => {
  const rules = new HistoryRules(Object.fromEntries([['channel:*', one] as const, ['channel:1', { size: 9, ttl: 9 }]]))
  assert.deepEqual(rules.of('channel:1'), one)
})

test('a retention has a size and a ttl within bounds, and nothing else', () => {
  for (const good of [one, { size: 100_000, ttl: 31_622_400 }]) assert.equal(historyRuleProblem(good), undefined)
  for (const [bad, text] of [
    [null, /is not \{size, ttl\}/],
    [[], /is not \{size, ttl\}/],
    ['1', /is not \{size, ttl\}/],
    [{}, /needs size \(entries\) and ttl \(seconds\)|size/],
    [{ size: 1 }, /ttl/],
    [{ size: 0, ttl: 1 }, /size/],
    [{ size: 100_001, ttl: 1 }, /size/],
    [{ size: 1.5, ttl: 1 }, /size/],
    [{ size: 1, ttl: 0 }, /ttl/],
    [{ size: 1, ttl: 31_622_401 }, /ttl/],
    [{ size: '1', ttl: 1 }, /size/],
    [{ ...one, tll: 1 }, /unknown key "tll"/],
  ] as const) {
    assert.match(historyRuleProblem(bad) ?? 'no problem', text, JSON.stringify(bad))
  }
})

test('rules are checked by pattern and by what they say, and the place is named', () => {
  assert.equal(rulesProblem({}), undefined)
  assert.equal(rulesProblem({ 'channel:*': one, 'user:42': one, all: one }), undefined)
  for (const [bad, text] of [
    [null, /must be an object/],
    [[], /must be an object/],
    [{ 'connection:*': one }, /\["connection:\*"\] is not allowed: connections are never recorded/],
    [{ orders: one }, /\["orders"\] is not allowed/],
    [{ 'channel:a b': one }, /is not allowed/],
    [{ 'channel:*': { size: 1 } }, /\["channel:\*"\] .*ttl/],
  ] as const) {
    assert.match(rulesProblem(bad) ?? 'no problem', text, JSON.stringify(bad))
  }
})

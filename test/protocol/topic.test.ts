import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  isTopic,
  matchesPattern,
  nameProblem,
  ownTopics,
  patternProblem,
  topicKind,
  topicProblem,
} from '../../src/protocol/topic.ts'

const GOOD = [
  'all',
  'channel:orders',
  'user:42',
  'connection:c_1',
  'user:a:b',
  'user:é😀',
  'channel:__proto__',
  'channel:..',
]

for (const topic of GOOD) {
  test(`${topic} is a topic`, () => {
    assert.equal(topicProblem(topic), undefined)
    assert.equal(isTopic(topic), true)
  })
}

const HINT = 'write channel:NAME, user:ID, connection:ID or all'
const CHARACTERS = 'has white space, a control character, a lone surrogate, a brace or a star in it'

const BAD: [topic: unknown, problem: string][] = [
  [undefined, 'a topic is a string such as "channel:orders", not a value of type undefined'],
  [null, 'a topic is a string such as "channel:orders", not null'],
  [['all'], 'a topic is a string such as "channel:orders", not an array'],
  [7, 'a topic is a string such as "channel:orders", not a value of type number'],
  ['', `"" is no topic: ${HINT}`],
  ['orders', `"orders" is no topic: ${HINT}`],
  [':x', `":x" is no topic: ${HINT}`],
  ['All', `"All" is no topic: ${HINT}`],
  ['all:x', `"all:x" is no topic: ${HINT}`],
  ['push:user:42', `"push:user:42" is no topic: ${HINT}`],
  ['__proto__:x', `"__proto__:x" is no topic: ${HINT}`],
  ['user:', '"user:" is no topic: what follows "user:" is empty'],
  ['user:a b', `"user:a b" is no topic: what follows "user:" ${CHARACTERS}`],
  ['user:a\u00a0b', `"user:a\u00a0b" is no topic: what follows "user:" ${CHARACTERS}`],
  ['user:a\n', `"user:a\\n" is no topic: what follows "user:" ${CHARACTERS}`],
  ['user:\0', `"user:\\u0000" is no topic: what follows "user:" ${CHARACTERS}`],
  ['user:\u0085', `"user:\u0085" is no topic: what follows "user:" ${CHARACTERS}`],
  ['channel:{x}', `"channel:{x}" is no topic: what follows "channel:" ${CHARACTERS}`],
  ['channel:a*', `"channel:a*" is no topic: what follows "channel:" ${CHARACTERS}`],
  ['presence:x', `"presence:x" is no topic: ${HINT}`],
  ['channel:\ud800', `"channel:\\ud800" is no topic: what follows "channel:" ${CHARACTERS}`],
  [`user:${'x'.repeat(201)}`, `"user:${'x'.repeat(75)}…" is no topic: what follows "user:" is longer than 200 bytes`],
]

for (const [topic, problem] of BAD) {
  test(`${JSON.stringify(topic)?.slice(0, 40)} is refused with a reason`, () => {
    assert.equal(topicProblem(topic), problem)
    assert.equal(isTopic(topic), false)
  })
}

test('a name has 1 to 200 bytes of UTF-8, not characters', () => {
  assert.equal(nameProblem('é'.repeat(100)), undefined)
  assert.equal(nameProblem(`${'é'.repeat(100)}x`), 'is longer than 200 bytes')
  assert.equal(nameProblem('😀'.repeat(50)), undefined)
  assert.equal(nameProblem(''), 'is empty')
})

test('kinds and own topics', () => {
  assert.deepEqual((['all', 'channel:all', 'user:channel:x', 'connection:c'] as const).map(topicKind), [
    'all',
    'channel',
    'user',
    'connection',
  ])
  assert.deepEqual(ownTopics('c', '42'), ['all', 'connection:c', 'user:42'])
  assert.deepEqual(ownTopics('c', null), ['all', 'connection:c'])
})

test('patterns: a star is any run of characters, and everything else is itself', () => {
  const table: [pattern: string, topic: string, matches: boolean][] = [
    ['*', 'all', true],
    ['channel:*', 'channel:x', true],
    ['channel:*', 'channel:', true],
    ['channel:*', 'user:channel:x', false],
    ['channel:x.*', 'channel:x.y', true],
    ['channel:x.*', 'channel:xay', false],
    ['channel:*.eu', 'channel:a.eu.eu', true],
    ['channel:a*b*c', 'channel:a-b-b-c', true],
    ['channel:a*b*c', 'channel:a-c-b', false],
    ['channel:[a-z]', 'channel:a', false],
    ['channel:?', 'channel:a', false],
    ['', 'all', false],
    ['channel:*', 'channel:*', true],
    ['channel:**', 'channel:x', true],
    ['channel:x', 'channel:x', true],
    ['channel:x', 'channel:xx', false],
  ]
  for (const [pattern, topic, matches] of table)
    assert.equal(matchesPattern(pattern, topic), matches, `${pattern} ${topic}`)
})

test('property: patterns mean what the obvious regular expression means', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.'), maxLength: 8 })
  fc.assert(
    fc.property(text, text, (pattern, topic) => {
      const expression = pattern
        .split('*')
        .map(part => part.replaceAll('.', '\\.'))
        .join('.*')
      assert.equal(matchesPattern(pattern, topic), new RegExp(`^${expression}$`).test(topic))
    }),
    { numRuns: 300 },
  )
})

test('a hostile pattern costs no time', () => {
  const topic = `channel:${'a'.repeat(190)}`
  const start = performance.now()
  for (let i = 0; i < 100; i++) assert.equal(matchesPattern(`channel:${'a*'.repeat(90)}b`, topic), false)
  const elapsed = performance.now() - start
  // Backtracking would take longer than the world has stood.
  assert.ok(elapsed < 10_000, `${elapsed} ms for a hundred`)
})

test('patterns are refused where no topic could match them', () => {
  for (const pattern of ['*', '**', 'channel:*', 'channel:x.*', 'user:*', 'all', 'channel:x']) {
    assert.equal(patternProblem(pattern), undefined, pattern)
  }
  assert.equal(patternProblem('orders.*'), '"orders.*" is no pattern of topics: write for example "channel:orders.*"')
  assert.equal(
    patternProblem('channel:{*}'),
    '"channel:{*}" is no pattern of topics: write for example "channel:orders.*"',
  )
  assert.match(patternProblem('orders') ?? '', /^"orders" is no topic/)
  assert.match(patternProblem(7) ?? '', /^a topic is a string/)
})

test('property: any value is a topic or has a reason, and a topic survives the wire', () => {
  const name = fc.string({ unit: 'binary', maxLength: 10 })
  const value = fc.oneof(
    fc.anything(),
    fc.tuple(fc.constantFrom('channel:', 'user:', 'connection:', ''), name).map(([kind, n]) => kind + n),
  )
  fc.assert(
    fc.property(value, candidate => {
      if (!isTopic(candidate)) return assert.ok((topicProblem(candidate) ?? '').length > 0)
      assert.equal(Buffer.from(candidate).toString(), candidate)
      assert.equal(/[\s{}*]/.test(candidate), false)
    }),
    { numRuns: 300 },
  )
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeEventId, encodeEventId, MAX_EVENT_ID } from '../../src/protocol/event-id.ts'
import { encodeId, isId } from '../../src/protocol/position.ts'
import { isTopic, type Topic } from '../../src/protocol/topic.ts'

const id = fc
  .record({ timeline: fc.stringMatching(/^[0-9a-z]{1,32}$/), seq: fc.nat(), time: fc.nat(), number: fc.nat(999) })
  .map(({ timeline, seq, time, number }) => encodeId(timeline, seq, `${time}-${number}`))
const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
const topic = fc
  .tuple(fc.constantFrom('channel', 'user'), name)
  .map(([kind, text]) => `${kind}:${text}`)
  .filter(isTopic) as fc.Arbitrary<Topic>
const positions = (constraints: fc.ArrayConstraints) =>
  fc.array(fc.tuple(topic, id), constraints).map(all => new Map(all))

test('property: what an event id names is what it was made of, in characters that a header takes', () => {
  fc.assert(
    fc.property(positions({ maxLength: 8 }), held => {
      const text = encodeEventId(held)
      assert.match(text, /^[A-Za-z0-9_-]+$/)
      assert.deepEqual(decodeEventId(text), { since: held, isWhole: true })
    }),
  )
})

test('property: one of very many topics is never too long, keeps the first of them, and says that it is not all', () => {
  fc.assert(
    fc.property(positions({ minLength: 120, maxLength: 160 }), held => {
      const text = encodeEventId(held)
      assert.ok(text.length <= MAX_EVENT_ID, `${text.length}`)
      const { since, isWhole } = decodeEventId(text)
      assert.equal(isWhole, since.size === held.size)
      assert.ok(since.size > 0)
      for (const [of, position] of since) assert.equal(position, held.get(of))
      assert.equal([...since.keys()][0], [...held.keys()][0])
    }),
    { numRuns: 30 },
  )
})

test('property: whatever a client sends, nothing is thrown, and only topics and ids come out', () => {
  const forged = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.json().map(text => Buffer.from(text).toString('base64url')),
    fc.dictionary(fc.string(), fc.oneof(id, fc.string(), fc.integer())).map(object => {
      return Buffer.from(`+${JSON.stringify(object)}`).toString('base64url')
    }),
    fc.string({ minLength: MAX_EVENT_ID + 1, maxLength: MAX_EVENT_ID + 50 }),
  )
  fc.assert(
    fc.property(forged, text => {
      const { since, isWhole } = decodeEventId(text)
      for (const [of, position] of since) assert.ok(isTopic(of) && isId(position))
      if (since.size === 0 && text.length > MAX_EVENT_ID) assert.equal(isWhole, false)
    }),
  )
})

test('what was cut off, changed or made by others says that nothing is known for sure', () => {
  const whole = encodeEventId(
    new Map([
      ['channel:a', 't.1.1-0'],
      ['user:7', 't.2.1-0'],
    ] as [Topic, string][]),
  )
  for (const text of [
    whole.slice(0, -4),
    '42',
    'null',
    '[]',
    '{}',
    Buffer.from('{"channel:a":7}').toString('base64url'),
  ]) {
    assert.equal(decodeEventId(text).isWhole, false, text)
  }
  assert.deepEqual(decodeEventId(Buffer.from('{}').toString('base64url')), { since: new Map(), isWhole: true })
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseRecorded } from '../../src/broker/redis/history.ts'
import { encodeId, isCovered, isId, MAX_ID_LENGTH, positionOf, timelineOf } from '../../src/protocol/position.ts'
import { Slice } from '../../src/protocol/slice.ts'

const timeline = fc.stringMatching(/^[0-9a-z]{1,32}$/)
const mark = fc.tuple(fc.nat(9_999_999_999_999), fc.nat()).map(([time, number]) => `${time}-${number}`)
const seq = fc.nat(Number.MAX_SAFE_INTEGER)

test('an id is read as it was written', () => {
  const property = fc.property(timeline, seq, mark, (line, n, at) => {
    const id = encodeId(line, n, at)
    assert.ok(isId(id))
    assert.equal(timelineOf(id), line)
    assert.deepEqual(positionOf(id), { id, seq: n })
  })
  fc.assert(property)
})

test('the longest id is one, and what is longer or anything else is none', () => {
  const longest = encodeId('z'.repeat(32), Number.MAX_SAFE_INTEGER, `${'9'.repeat(16)}-${'9'.repeat(16)}`)
  assert.ok(longest.length <= MAX_ID_LENGTH && isId(longest))
  const others = ['', 'x', 'a.1.1', 'a.1.1-', 'a.-1.1-0', 'A.1.1-0', 'a.1.1-0 ', 'a.1.1-0\n', `${'a'.repeat(33)}.1.1-0`]
  for (const value of [...others, undefined, null, 1, {}, ['a.1.1-0']]) assert.equal(isId(value), false, String(value))
  const property = fc.property(fc.string(), text => void assert.equal(isId(text), positionOf(text) !== undefined))
  fc.assert(property)
})

test('who has everything up to a place has what is before it on the same history, and nothing else', () => {
  const at = (line: string, n: number, on: string) => ({ id: encodeId(line, n, on), seq: n })
  const by = at('a', 5, '100-3')
  assert.equal(isCovered(by, by), true)
  assert.equal(isCovered(at('a', 4, '100-2'), by), true)
  assert.equal(isCovered(at('a', 6, '100-4'), by), false)
  assert.equal(isCovered(at('b', 4, '100-2'), by), false)
  assert.equal(isCovered(at('ab', 4, '100-2'), by), false)
  // The head was evicted and numbering began anew.
  assert.equal(isCovered(at('a', 1, '101-0'), by), false)
  assert.equal(isCovered(at('a', 5, '100-4'), by), false)
})

const line = fc
  .oneof(timeline, fc.constant(''))
  .chain(start => fc.tuple(fc.constant(start), seq, mark).map(parts => encodeId(...parts)))

test('a recorded publication is read back as push.lua writes it', () => {
  const property = fc.property(timeline, seq, mark, fc.option(line), fc.uint8Array(), (start, n, at, prev, bytes) => {
    const id = encodeId(start, n, at)
    const previous = prev && positionOf(prev) ? prev : '-'
    const message = Buffer.concat([Buffer.from(`${id} ${n} ${previous}\n`), bytes])
    const { position, envelope, ...rest } = parseRecorded(new Slice(message))!
    assert.deepEqual({ position, ...rest }, { position: { id, seq: n }, previous })
    assert.ok(envelope.view().equals(bytes))
  })
  fc.assert(property)
})

test('what only looks like one is taken as it is', () => {
  const bare = [
    '',
    ' ',
    '{"type":"n"}',
    '\n{"type":"n"}',
    'hello',
    'hello\n',
    'a.1.1-0 1 -',
    'a.1.1-0 2 -\n{}',
    'a.1.1-0 01 -\n{}',
    'a.1.1-0 1\n{}',
    'a.1.1-0 1  -\n{}',
    'a.1.1-0 1 - x\n{}',
    'a.1.1-0 1 x\n{}',
    'a.1.1-0\n{}',
    `a.1.1-0 1 -${' '.repeat(300)}\n{}`,
    ' a.1.1-0 1 -\n{}',
  ]
  for (const text of bare) assert.equal(parseRecorded(new Slice(Buffer.from(text))), undefined, JSON.stringify(text))
  const property = fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
    assert.equal(parseRecorded(new Slice(Buffer.from(bytes))), undefined)
  })
  fc.assert(property)
})

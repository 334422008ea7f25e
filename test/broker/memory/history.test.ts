import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { MemoryHistory } from '../../../src/broker/memory/history.ts'
import { newest } from '../../../src/protocol/position.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { startRedis } from '../../helpers/redis.ts'

const X: Topic = 'channel:x'
const ALL = { count: 1000, bytes: 1e9 }
const HOUR = 3_600_000

function history(start = Date.now()) {
  const clock = { now: start }
  const memory = new MemoryHistory(() => clock.now)
  const append = (n: unknown, size = 10, ttl = 60, key?: string, topic = X) =>
    memory.append(topic, Buffer.from(JSON.stringify(n)), { size, ttl }, key)
  return { clock, memory, append }
}

test('an append is numbered, and its place is where the topic stands', () => {
  const { memory, append } = history()
  assert.equal(memory.head(X).seq, 0)
  const { position, isDuplicate } = append(1)
  assert.deepEqual([position.seq, isDuplicate], [1, false])
  assert.deepEqual(memory.head(X), position)
  assert.equal(append(1, 10, 60, undefined, 'all').position.seq, 1)
})

test('the newest are no older than the ttl, and of bounded size; a first large one comes all the same', () => {
  const { clock, memory, append } = history()
  const numbers = (count: number) => memory.page(X, newest(count), ALL).entries.map(({ position }) => position.seq)
  append(1)
  clock.now += 59_999
  append(2)
  assert.deepEqual([numbers(1), numbers(9)], [[2], [1, 2]])
  clock.now += 2
  assert.deepEqual(numbers(9), [2])
  clock.now += HOUR
  assert.deepEqual(numbers(9), [])
  assert.equal(memory.recorded(X)!.size, 0)
  assert.equal(memory.page(X, newest(9), ALL).isComplete, true)
  for (let n = 3; n <= 6; n++) append('x'.repeat(500_000))
  assert.deepEqual(numbers(9), [5, 6])
  append('x'.repeat(5_000_000))
  assert.deepEqual(numbers(9), [7])
})

test('keys are remembered ten minutes or as long as the entries, and then forgotten', () => {
  const { clock, append } = history()
  const first = append(1, 10, 60, 'k')
  clock.now += 599_999
  assert.deepEqual(append(2, 10, 60, 'k'), { position: first.position, isDuplicate: true })
  clock.now += 1
  assert.equal(append(3, 10, 60, 'k').isDuplicate, false)
  append(4, 10, 7200, 'long')
  clock.now += 7_199_999
  assert.equal(append(5, 10, 60, 'long').isDuplicate, true)
})

test('a key of a client is forgotten after ten minutes, whatever else is remembered', () => {
  const { clock, append } = history()
  append(1, 10, 7200, 'long')
  const first = append(2, 10, 7200, 'client:k')
  clock.now += 599_999
  assert.deepEqual(append(3, 10, 7200, 'client:k'), { position: first.position, isDuplicate: true })
  clock.now += 1
  assert.equal(append(4, 10, 7200, 'client:k').isDuplicate, false)
  assert.equal(append(5, 10, 7200, 'long').isDuplicate, true)
})

test('a key that lives longer does not keep shorter ones behind it in memory', () => {
  const { clock, memory, append } = history()
  append(1, 1, 366 * 24 * 3600, 'long')
  for (let n = 0; n < 100; n++) append(n, 1, 1, `k${n}`)
  clock.now += 367 * 24 * HOUR
  append(2, 1, 1)
  assert.equal(memory.page(X, memory.head(X).id, ALL).gap, undefined)
})

test('topics have a bound: old ones give way, and none that is needed', () => {
  const { clock, append } = history()
  for (let n = 0; n < 10_000; n++) append(1, 1, 60, undefined, `user:${n}`)
  assert.throws(() => append(1, 1, 60, undefined, 'user:more'), { code: 'PUSH_ERR_BUSY' })
  assert.doesNotThrow(() => append(2, 1, 60, undefined, 'user:1'))
  clock.now += 24 * HOUR + 60_001
  append(3, 1, 60, undefined, 'user:1')
  append(1, 1, 60, undefined, 'user:more')
  assert.equal(append(4, 1, 60, undefined, 'user:1').position.seq, 4)
})

test('an id of a history that gave way is not one of the next', () => {
  const { clock, memory, append } = history()
  const old = append(1).position.id
  for (let n = 1; n < 10_000; n++) append(1, 1, 60, undefined, `user:${n}`)
  clock.now += 24 * HOUR + 60_001
  append(1, 1, 60, undefined, 'user:more')
  assert.equal(append(2).position.seq, 1)
  assert.equal(memory.page(X, old, ALL).gap, 'history_replaced')
  append(3)
  assert.equal(memory.page(X, old, ALL).gap, 'history_replaced')
})

test('another process is another history', () => {
  const [one, other] = [history(), history()]
  const { id } = one.append(1).position
  other.append(1)
  assert.equal(other.memory.page(X, id, ALL).gap, 'history_replaced')
  assert.equal(other.memory.page(X, 'x', ALL).gap, 'unknown_id')
})

// ── the same as push.lua ─────────────────────────────────────────────────────────────────────────────────────────

const CLOCKED = readFileSync(new URL('../../../src/broker/redis/push.lua', import.meta.url), 'utf8').replace(
  "local time = redis.call('TIME')",
  "local ms = tonumber(redis.call('GET', 'clock'))\n  local time = { math.floor(ms / 1000), (ms % 1000) * 1000 }",
)

interface Call {
  do: string
  size: number
  key: string | undefined
  since: number
  /** Entries of a page, and bytes of one or of an envelope. */
  count: number
  bytes: number
  length: number
  spoil: string
  ms: number
}

const STEP: Call = { do: 'page', size: 1, key: undefined, since: 0, count: 1, bytes: 1, length: 0, spoil: '', ms: 1 }

const call = fc.record<Call>({
  do: fc.constantFrom('append', 'append', 'page', 'page', 'newest', 'wait'),
  size: fc.integer({ min: 1, max: 6 }),
  key: fc.constantFrom(undefined, undefined, 'a', 'b'),
  since: fc.nat(30),
  count: fc.integer({ min: 1, max: 7 }),
  bytes: fc.constantFrom(1, 60, 150, 1e6),
  length: fc.nat(40),
  spoil: fc.constantFrom('', '', '', 'seq', 'timeline', 'all'),
  ms: fc.constantFrom(1, 30_000, 59_999, 90_000, 13 * HOUR, -5000),
})

/** What a node tells with each call: the timeline of the server, and its limit. */
const TOLD = ['0000000000000', 262_144]

/** Places that both know, under the ids that each has given them. */
type Place = { memory: string; redis: string }

function spoiled(id: string, how: string): string {
  const [timeline, seq, mark] = id.split('.') as [string, string, string]
  if (how === 'seq') return `${timeline}.${Number(seq) + 100}.${mark}`
  if (how === 'timeline') return `zz.${seq}.${mark}`
  return how === 'all' ? 'junk' : id
}

test('memory and push.lua give the same answers', { timeout: 120_000 }, async t => {
  const redis = (await startRedis(t)).admin
  const body = `${CLOCKED.slice(CLOCKED.indexOf('\n'))}\nreturn functions[table.remove(ARGV, 1)](KEYS, ARGV)`
  let runs = 0
  const property = fc.asyncProperty(
    fc.array(call, { maxLength: 40, size: 'max' }),
    fc.constantFrom(60, 3600),
    (calls, ttl) => compare(redis, body, { channel: `push:channel:r${++runs}`, ttl }, calls),
  )
  const step = (what: Call['do'], more: Partial<Call> = {}): Call => ({ ...STEP, do: what, ...more })
  // A clock that went back: what came after is as old as what came before.
  const slowClock = [
    step('append'),
    step('wait', { ms: -5000 }),
    step('append'),
    step('wait', { ms: 1 }),
    step('append', { size: 2 }),
    step('wait', { ms: 60_000 }),
    step('page'),
  ]
  const repeatAtTheEnd = [
    step('append', { key: 'a' }),
    step('wait', { ms: -5000 }),
    step('append'),
    step('wait', { ms: 60_000 }),
    step('append', { key: 'a' }),
    step('wait', { ms: 1 }),
    step('page'),
  ]
  // The history has expired as a whole, with entries whose marks have not: what is recorded next comes after a gap.
  const expiredAsAWhole = [
    step('append'),
    step('wait', { ms: -5000 }),
    step('append', { size: 2 }),
    step('append'),
    step('wait', { ms: 60_000 }),
    step('wait', { ms: 1 }),
    step('append'),
    step('page', { since: 2 }),
    step('page', { since: 3 }),
  ]
  const newestExpiredAsAWhole = [...expiredAsAWhole.slice(0, 6), step('newest', { since: 5, count: 7, bytes: 1e6 })]
  const examples: [Call[], number][] = [
    [slowClock, 60],
    [repeatAtTheEnd, 60],
    [expiredAsAWhole, 60],
    [newestExpiredAsAWhole, 60],
  ]
  await fc.assert(property, { numRuns: 150, includeErrorInReport: true, examples })
})

async function compare(
  redis: Redis,
  body: string,
  { channel, ttl }: { channel: string; ttl: number },
  calls: readonly Call[],
): Promise<void> {
  const { clock, memory, append } = history()
  const lua = (name: string, ...args: (string | number)[]) =>
    redis.eval(body, 1, channel, name, ...args) as Promise<(string | number)[]>
  await redis.set('clock', clock.now)
  const places: Place[] = [{ memory: memory.head(X).id, redis: String((await lua('push_heads', ...TOLD))[0]) }]
  let last = clock.now
  for (const step of calls) {
    if (step.do === 'wait') {
      // What has expired in Redis is gone, and a clock that goes back does not bring it again.
      if (step.ms < 0 && clock.now - last > ttl * 1000) return
      clock.now += step.ms
      await redis.set('clock', clock.now)
      // Real keys do not expire by the clock of the test.
      if (clock.now - last > ttl * 1000) await redis.del(`{${channel}}:history`)
      if (clock.now - last >= 24 * HOUR) return
    } else if (step.do === 'append') {
      const payload = { type: 'n', payload: 'x'.repeat(step.length) }
      const own = append(payload, step.size, ttl, step.key)
      const keys = step.key === undefined ? [] : [step.key]
      const [id, seq, , duplicate] = await lua('push_publish', JSON.stringify(payload), step.size, ttl, ...keys)
      if (duplicate !== Number(own.isDuplicate)) return
      assert.equal(seq, own.position.seq)
      // A repeat records nothing, so it does not keep the key either.
      if (!own.isDuplicate) last = clock.now
      places.push({ memory: own.position.id, redis: String(id) })
    } else {
      await comparePages(lua, memory, places[Math.min(step.since, places.length - 1)]!, step)
    }
  }
}

async function comparePages(
  lua: (name: string, ...args: (string | number)[]) => Promise<(string | number)[]>,
  memory: MemoryHistory,
  place: Place,
  { do: what, since, count, bytes, spoil }: Call,
): Promise<void> {
  const isNewest = what === 'newest'
  const own = memory.page(X, isNewest ? newest(since + 1) : spoiled(place.memory, spoil), { count, bytes })
  const from = isNewest ? since + 1 : spoiled(place.redis, spoil)
  const [reason, , seq, isComplete, ...flat] = await lua(
    isNewest ? 'push_newest' : 'push_history',
    ...TOLD,
    from,
    count,
    bytes,
  )
  assert.deepEqual(
    [own.gap ?? '', own.head.seq, Number(own.isComplete), own.entries.map(({ position }) => position.seq)],
    [reason, seq, isComplete, flat.filter((_, i) => i % 2 === 0).map(id => Number(String(id).split('.')[1]))],
    `${place.memory} ${place.redis} ${spoil}`,
  )
  assert.deepEqual(
    own.entries.map(({ envelope }) => Buffer.from(envelope).toString()),
    flat.filter((_, i) => i % 2 === 1),
  )
}

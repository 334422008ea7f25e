import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import type { HistoryEntry, HistoryPage, PageLimits } from '../../../src/broker/broker.ts'
import { GapFiller } from '../../../src/broker/redis/gap-filler.ts'
import type { RedisHistory } from '../../../src/broker/redis/history.ts'
import { errors, type PushError } from '../../../src/protocol/errors.ts'
import type { GapReason } from '../../../src/protocol/messages.ts'
import { encodeId, type Position, positionOf, timelineOf } from '../../../src/protocol/position.ts'
import { Slice } from '../../../src/protocol/slice.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { PATIENCE, until, within } from '../../helpers/waiting.ts'

// ── a Redis in miniature ─────────────────────────────────────────────────────────────────────────────────────────

interface Stored {
  position: Position
  previous: string
  envelope: Buffer
}

interface History {
  head: Position | undefined
  entries: Stored[]
}

interface Asked {
  run(): () => void
  fail(error: PushError): void
}

const isAfter = (mark: string, than: string) => {
  const [time, number] = mark.split('-').map(Number) as [number, number]
  const [otherTime, otherNumber] = than.split('-').map(Number) as [number, number]
  return time > otherTime || (time === otherTime && number > otherNumber)
}

/** Does what push.lua does, and answers when the test says so: in the order in which it was asked. */
class MiniRedis implements RedisHistory {
  timeline = 't0'
  clock = 1000
  readonly histories = new Map<Topic, History>()
  /** Asked and not carried out; carried out and not answered. */
  asked: Asked[] = []
  answers: (() => void)[] = []
  reads = 0
  pageSize = 3
  #timelines = 0

  of(topic: Topic): History {
    const known = this.histories.get(topic)
    if (known) return known
    const fresh: History = { head: undefined, entries: [] }
    this.histories.set(topic, fresh)
    return fresh
  }

  #headOf(topic: Topic): Position | undefined {
    const { head } = this.of(topic)
    return head && { ...head, id: head.id.replace(/^\w+/, this.timeline) }
  }

  record(topic: Topic): Stored {
    const history = this.of(topic)
    const head = this.#headOf(topic)
    if (!head) history.entries = []
    const seq = (head?.seq ?? 0) + 1
    const position = { id: encodeId(this.timeline, seq, `${++this.clock}-0`), seq }
    const stored = { position, previous: head?.id ?? '-', envelope: Buffer.from(position.id) }
    history.entries.push(stored)
    history.head = position
    return stored
  }

  start(): Position {
    return { id: encodeId(this.timeline, 0, `${this.clock}-0`), seq: 0 }
  }

  trim(entries: number): void {
    for (const history of this.histories.values()) history.entries.splice(0, entries)
  }

  newTimeline(): void {
    this.timeline = `t${++this.#timelines}`
  }

  page(topic: Topic, since: string, count: number): HistoryPage {
    const head = this.headOf(topic)
    const whole = { head, entries: [], isComplete: true }
    if (since === head.id) return whole
    const from = positionOf(since)!
    if (timelineOf(since) !== this.timeline) return { ...whole, gap: 'history_replaced' }
    if (head.seq === 0) return from.seq === 0 ? whole : { ...whole, gap: 'history_expired' }
    if (from.seq > head.seq) return { ...whole, gap: 'history_replaced' }
    const mark = since.split('.')[2]!
    const later = this.of(topic).entries.filter(
      ({ position }) => from.seq === 0 || isAfter(position.id.split('.')[2]!, mark),
    )
    const first = later[0]
    if (!first) return { ...whole, gap: 'history_expired' }
    const follows = first.previous === since || (from.seq === 0 && first.position.seq === 1)
    if (!follows) return { ...whole, gap: first.position.seq > from.seq + 1 ? 'history_trimmed' : 'history_replaced' }
    const entries: HistoryEntry[] = later.slice(0, count)
    return { head, entries, isComplete: entries.length === later.length }
  }

  #ask<T>(compute: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = () => {
        const result = compute()
        return () => resolve(result)
      }
      this.asked.push({ run, fail: reject })
    })
  }

  headOf(topic: Topic): Position {
    return this.#headOf(topic) ?? this.start()
  }

  heads(topics: readonly Topic[]): Promise<Map<Topic, Position>> {
    return this.#ask(() => new Map(topics.map(topic => [topic, this.headOf(topic)])))
  }

  read(topic: Topic, since: string, { count }: PageLimits): Promise<HistoryPage> {
    this.reads++
    return this.#ask(() => this.page(topic, since, Math.min(count, this.pageSize)))
  }

  different(known: readonly [Topic, Position][]): Promise<Topic[]> {
    return this.#ask(() =>
      known
        .filter(([topic, { id }]) => {
          const head = this.#headOf(topic)
          return head ? head.id !== id : !(timelineOf(id) === this.timeline && positionOf(id)!.seq === 0)
        })
        .map(([topic]) => topic),
    )
  }

  /** Carries out the oldest that was asked. */
  execute(): void {
    const next = this.asked.shift()
    if (next) this.answers.push(next.run())
  }

  /** The oldest answer comes in. */
  answer(): void {
    this.answers.shift()?.()
  }

  /** A time-out, say. Whether Redis carried it out is of no account, for it only read. */
  fail(error: PushError = new errors.UNCONFIRMED('')): void {
    if (this.answers.length === 0) this.asked.shift()?.fail(error)
  }

  get isIdle(): boolean {
    return this.asked.length + this.answers.length === 0
  }
}

// ── a node, and what it may never do ─────────────────────────────────────────────────────────────────────────────

type Live = { topic: Topic; stored: Stored } | { topic: Topic; bare: string }

const TOPICS: readonly Topic[] = ['channel:recorded', 'channel:mixed', 'channel:bare']
const isRecorded = (topic: Topic) => topic !== 'channel:bare'

interface Seen {
  /** The id that the next one has to name; undefined after a gap without a position. */
  expected: string | undefined
  /** When the last one was recorded. */
  order: number
  ids: Set<string>
  bare: Set<string>
  gaps: { reason: GapReason; position: Position | undefined }[]
  /** Bare ones that were lost since the last gap. */
  missing: string[]
}

async function join(gapFiller: GapFiller, topic: Topic): Promise<Position | undefined> {
  return (await gapFiller.join([topic])).get(topic)
}

class Node {
  readonly redis = new MiniRedis()
  readonly seen = new Map<Topic, Seen>()
  readonly log: string[] = []
  readonly failures: unknown[] = []
  /** What found no room: the topic, and the last two characters. */
  readonly dropped: string[] = []
  readonly gapFiller: GapFiller
  readonly held = new Set<Topic>(TOPICS)
  isUp = true
  #pipe: Live[] = []
  readonly #order = new Map<string, { order: number; stored: Stored }>()
  #numbers = 0
  #working = 0

  constructor() {
    for (const topic of TOPICS) {
      this.seen.set(topic, { expected: '', order: 0, ids: new Set(), bare: new Set(), gaps: [], missing: [] })
    }
    this.gapFiller = new GapFiller(this.redis, {
      deliver: (topic, envelope, position) => this.#onDelivered(topic, envelope.view(), position),
      lost: (reason, topics) => {
        for (const [topic, position] of topics) this.#onLost(topic, reason, position)
      },
      dropped: (topic, envelope) => void this.dropped.push(`${topic} ${Buffer.from(envelope.view().subarray(-2))}`),
      isRecorded,
      topics: () => this.held,
      filled: () => {},
      failed: error => void this.failures.push(error),
    })
  }

  async join(topic: Topic): Promise<void> {
    const joining = join(this.gapFiller, topic)
    this.redis.execute()
    this.redis.answer()
    this.seen.get(topic)!.expected = (await joining)!.id
  }

  #onLost(topic: Topic, reason: GapReason, position: Position | undefined): void {
    this.log.push(`lost ${topic} ${reason} ${position?.id}`)
    const seen = this.seen.get(topic)!
    seen.gaps.push({ reason, position })
    // One without a position says that something may be missing; what is recorded goes on as it was.
    if (position) seen.expected = position.id
    seen.missing = []
  }

  #onDelivered(topic: Topic, envelope: Uint8Array, position: Position | undefined): void {
    const text = Buffer.from(envelope).toString()
    this.log.push(`deliver ${topic} ${text}`)
    const seen = this.seen.get(topic)!
    if (!position) {
      assert.ok(!seen.bare.has(text), `${text} came twice`)
      seen.bare.add(text)
      return
    }
    const { order, stored } = this.#order.get(position.id)!
    assert.equal(text, position.id)
    assert.ok(!seen.ids.has(position.id), `${position.id} came twice`)
    assert.ok(order > seen.order, `${position.id} came late`)
    const isFirst = stored.previous === '-' && positionOf(seen.expected!)?.seq === 0
    assert.ok(stored.previous === seen.expected || isFirst, `${position.id} after ${seen.expected} without a gap`)
    seen.ids.add(position.id)
    seen.order = order
    seen.expected = position.id
  }

  record(topic: Topic): void {
    const stored = this.redis.record(topic)
    this.#order.set(stored.position.id, { order: ++this.#numbers, stored })
    this.log.push(`record ${topic} ${stored.position.id} after ${stored.previous}`)
    if (this.isUp) this.#pipe.push({ topic, stored })
  }

  publishBare(topic: Topic): void {
    const bare = `bare${++this.#numbers}`
    this.log.push(`publish ${topic} ${bare}${this.isUp ? '' : ' to nobody'}`)
    if (this.isUp) this.#pipe.push({ topic, bare })
    else this.#miss(topic, bare)
  }

  /** Of what was never bare before nobody can tell that there was something bare. */
  #miss(topic: Topic, bare: string): void {
    const seen = this.seen.get(topic)!
    if (topic === 'channel:bare' || seen.bare.size > 0) seen.missing.push(bare)
  }

  /** The next message comes in. */
  hear(): void {
    const next = this.#pipe.shift()
    if (!next) return
    if ('bare' in next) this.gapFiller.receiveUnrecorded(next.topic, new Slice(Buffer.from(next.bare)))
    else this.gapFiller.receive(next.topic, { ...next.stored, envelope: new Slice(next.stored.envelope) })
  }

  /** The next message never comes in, without a sign. */
  lose(): void {
    if (this.#pipe[0] && 'stored' in this.#pipe[0]) this.#pipe.shift()
  }

  break(): void {
    if (!this.isUp) return
    this.isUp = false
    this.log.push('break')
    for (const live of this.#pipe) if ('bare' in live) this.#miss(live.topic, live.bare)
    this.#pipe = []
    this.gapFiller.interrupted()
  }

  restore(): void {
    if (this.isUp) return
    this.isUp = true
    this.log.push('restore')
    this.gapFiller.restored()
    this.compare()
  }

  /** Redis is what it was some entries ago; the tick says so. */
  rollBack(entries: number): void {
    this.log.push(`roll back ${entries}`)
    for (const history of this.redis.histories.values()) {
      history.entries.splice(Math.max(0, history.entries.length - entries))
      history.head = history.entries.at(-1)?.position
    }
    this.redis.newTimeline()
    if (!this.isUp) return
    this.gapFiller.invalidate()
    this.compare()
  }

  evict(topic: Topic): void {
    this.log.push(`evict ${topic}`)
    this.redis.of(topic).head = undefined
  }

  compare(): void {
    this.#working++
    this.gapFiller
      .compareAll()
      .catch(error => {
        this.failures.push(error)
        this.gapFiller.abandon()
      })
      .finally(() => {
        this.#working--
      })
  }

  /** Everything that is under way comes to its end. */
  async settle(): Promise<void> {
    this.restore()
    const deadline = performance.now() + PATIENCE
    const isAtWork = () => this.#working > 0 || (this.gapFiller.filling > 0 && performance.now() < deadline)
    for (let quiet = 0; quiet < 5 || isAtWork(); ) {
      while (this.#pipe.length > 0) this.hear()
      quiet = this.redis.isIdle ? quiet + 1 : 0
      this.redis.execute()
      this.redis.answer()
      // What is still at work and asks nothing waits for its next attempt.
      await (quiet > 5 ? sleep(20) : new Promise(setImmediate))
    }
  }
}

// ── the property ─────────────────────────────────────────────────────────────────────────────────────────────────

interface Step {
  do: string
  topic?: number
  entries?: number
}

const topic = fc.nat(2)
const simple = (...names: string[]) => fc.constantFrom(...names.map(name => ({ do: name }) as Step))

const common = [
  { weight: 8, arbitrary: fc.record({ do: fc.constant('record'), topic: fc.nat(1) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('bare'), topic: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 12, arbitrary: simple('hear', 'hear', 'execute', 'answer', 'turn') },
  { weight: 5, arbitrary: simple('lose', 'break', 'restore', 'restore', 'compare') },
]
const rare = [
  { weight: 1, arbitrary: fc.record({ do: fc.constant('roll back'), entries: fc.nat(4) }) },
  { weight: 1, arbitrary: simple('trim') },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('evict'), topic }) },
]
const failing = [{ weight: 2, arbitrary: simple('fail') }]

const actions: Record<string, (node: Node, topic: Topic, step: Step) => void> = {
  record: (node, topic) => isRecorded(topic) && node.record(topic),
  bare: (node, topic) => node.publishBare(topic),
  evict: (node, topic) => node.evict(topic),
  'roll back': (node, _topic, { entries = 0 }) => node.rollBack(entries),
  hear: node => node.hear(),
  lose: node => node.lose(),
  break: node => node.break(),
  restore: node => node.restore(),
  compare: node => node.compare(),
  execute: node => node.redis.execute(),
  answer: node => node.redis.answer(),
  fail: node => node.redis.fail(),
  trim: node => node.redis.trim(2),
}

async function take(node: Node, step: Step): Promise<void> {
  if (step.do === 'turn') await new Promise(setImmediate)
  else actions[step.do]!(node, TOPICS[step.topic ?? 0]!, step)
}

async function run(steps: readonly Step[]): Promise<void> {
  const node = new Node()
  try {
    for (const topic of TOPICS) await node.join(topic)
    for (const step of steps) await take(node, step)
    await node.settle()
    node.compare()
    await node.settle()
    assert.deepEqual(node.failures, [])
    assert.equal(node.gapFiller.filling, 0)
    for (const topic of TOPICS) {
      const head = node.redis.headOf(topic)
      const seen = node.seen.get(topic)!
      assert.deepEqual(seen.missing, [], `${topic}: something bare was lost and nobody was told`)
      if (head.seq > 0) assert.equal(seen.expected, head.id, `${topic} is not up to date`)
      if (head.seq > 0) assert.equal((await join(node.gapFiller, topic))?.id, head.id)
    }
    node.record('channel:recorded')
    node.hear()
    assert.equal(node.seen.get('channel:recorded')!.order > 0, true)
  } catch (error) {
    ;(error as Error).message += `\n${node.log.join('\n')}`
    throw error
  } finally {
    node.gapFiller.close()
  }
}

/** What fast-check says, with the log of the shortest failure. */
async function check(steps: fc.Arbitrary<Step>, numRuns: number): Promise<void> {
  const property = fc.asyncProperty(fc.array(steps, { maxLength: 60, size: 'max' }), run)
  await fc.assert(property, { numRuns, includeErrorInReport: true })
}

test('recorded publications come once, in order and without a hole, or a loss is told', async () => {
  await check(fc.oneof(...common), 1000)
})

test('the same where Redis goes back in time, trims and evicts', async () => {
  await check(fc.oneof(...common, ...rare), 1000)
})

test('the same where Redis does not answer now and then', async () => {
  const steps = fc.array(fc.oneof(...common, ...rare, ...failing), { maxLength: 60, size: 'max' })
  // A failed question is put again after 200 ms: many runs wait at the same time.
  for (let round = 0; round < 4; round++) await Promise.all(fc.sample(steps, 250).map(run))
})

// ── one at a time ────────────────────────────────────────────────────────────────────────────────────────────────

const X: Topic = 'channel:recorded'

async function joined(): Promise<Node> {
  const node = new Node()
  for (const topic of TOPICS) await node.join(topic)
  return node
}

const turn = () => new Promise(setImmediate)

/** Carries out everything that is asked, and what is asked because of the answer. */
async function answerAll(node: Node): Promise<void> {
  for (let i = 0; i < 20; i++) {
    node.redis.execute()
    node.redis.answer()
    await turn()
  }
}

const gapsOf = (node: Node, topic: Topic) => node.seen.get(topic)!.gaps.map(({ reason }) => reason)

test('the first publication of a topic is delivered as it comes, without asking Redis', async () => {
  const node = await joined()
  const { reads } = node.redis
  node.record(X)
  node.hear()
  node.record(X)
  node.hear()
  assert.equal(node.seen.get(X)!.ids.size, 2)
  assert.equal(node.redis.reads, reads)
})

test('a hole is filled before delivery goes on, and what is bare waits', async () => {
  const node = await joined()
  for (let n = 0; n < 8; n++) node.record(X)
  node.hear()
  for (let n = 0; n < 6; n++) node.lose()
  node.publishBare(X)
  node.hear()
  node.hear()
  assert.equal(node.gapFiller.filling, 1)
  assert.deepEqual([node.seen.get(X)!.ids.size, node.seen.get(X)!.bare.size], [1, 0])
  await answerAll(node)
  assert.deepEqual([node.seen.get(X)!.ids.size, node.seen.get(X)!.bare.size], [8, 1])
  assert.match(node.log.at(-1)!, /deliver channel:recorded bare/)
  assert.deepEqual(gapsOf(node, X), [])
})

test('a head that was evicted is noticed with the next publication', async () => {
  const node = await joined()
  for (let n = 0; n < 5; n++) node.record(X)
  for (let n = 0; n < 5; n++) node.hear()
  node.evict(X)
  node.record(X)
  node.hear()
  await answerAll(node)
  assert.deepEqual(gapsOf(node, X), ['history_replaced'])
  node.record(X)
  node.hear()
  assert.equal(node.seen.get(X)!.ids.size, 6)
})

test('two comparisons and a fill at once deliver once', async () => {
  const node = await joined()
  for (let n = 0; n < 4; n++) node.record(X)
  node.lose()
  node.hear()
  node.compare()
  node.compare()
  await answerAll(node)
  assert.equal(node.seen.get(X)!.ids.size, 4)
  assert.equal(node.gapFiller.filling, 0)
})

test('what is bare and waits has a bound; each that is dropped is told, and one gap for all of them', async () => {
  const node = await joined()
  node.record(X)
  node.hear()
  node.break()
  node.restore()
  const big = Buffer.alloc(1024 * 1024, 'x')
  for (let n = 0; n < 17; n++) node.gapFiller.receiveUnrecorded(X, new Slice(Buffer.concat([big, Buffer.from(`${n}`)])))
  await answerAll(node)
  assert.equal(node.seen.get(X)!.bare.size, 15)
  assert.match(node.log.at(-1)!, /lost channel:recorded overload/)
  assert.deepEqual(node.dropped, [`${X} 15`, `${X} 16`])
  // What waited is not counted any more.
  node.gapFiller.restored()
  for (let n = 0; n < 15; n++)
    node.gapFiller.receiveUnrecorded(X, new Slice(Buffer.concat([big, Buffer.from(`more${n}`)])))
  node.compare()
  await answerAll(node)
  assert.equal(node.seen.get(X)!.bare.size, 30)
  assert.equal(gapsOf(node, X).filter(reason => reason === 'overload').length, 1)
  node.gapFiller.leave(X)
})

test('a gap for what was dropped on its way stands after what came before, also where nothing was bare yet', async () => {
  const node = await joined()
  node.gapFiller.overflowed(X)
  assert.match(node.log.at(-1)!, /lost channel:recorded overload/)
  node.break()
  node.restore()
  node.gapFiller.receiveUnrecorded(X, new Slice(Buffer.from('early')))
  node.gapFiller.overflowed(X)
  assert.doesNotMatch(node.log.at(-1)!, /overload/)
  await answerAll(node)
  assert.deepEqual(
    node.log.slice(-2).map(line => line.replace(/ undefined$/, '')),
    [`deliver ${X} early`, `lost ${X} overload`],
  )
})

test('a history that cannot be read is a gap, and delivery goes on from what comes next', async () => {
  const node = await joined()
  node.record(X)
  node.hear()
  node.record(X)
  node.lose()
  node.record(X)
  node.hear()
  const noPermission = Object.assign(new Error('NOPERM'), { name: 'ReplyError' })
  node.redis.fail(new errors.BROKER_AWAY('Redis refused', { cause: noPermission }))
  await turn()
  assert.deepEqual(gapsOf(node, X), ['broker_link'])
  assert.equal(node.failures.length, 1)
  assert.equal(node.gapFiller.filling, 0)
  node.seen.get(X)!.expected = node.redis.headOf(X).id
  node.record(X)
  node.hear()
  assert.equal(node.seen.get(X)!.ids.size, 2)
})

test('a Redis that is loading or full is asked again', async () => {
  const node = await joined()
  for (let n = 0; n < 3; n++) node.record(X)
  node.lose()
  node.hear()
  for (const message of ['LOADING Redis is loading', "OOM command not allowed when used memory > 'maxmemory'"]) {
    node.redis.fail(new errors.BROKER_AWAY('', { cause: Object.assign(new Error(message), { name: 'ReplyError' }) }))
    await until(() => node.redis.asked.length > 0, 'another question')
  }
  await answerAll(node)
  assert.equal(node.seen.get(X)!.ids.size, 3)
  assert.deepEqual(gapsOf(node, X), [])
})

test('a topic that is left while it is filled, and joined again, begins anew', async () => {
  const node = await joined()
  for (let n = 0; n < 3; n++) node.record(X)
  node.lose()
  node.hear()
  node.gapFiller.leave(X)
  assert.equal(node.gapFiller.filling, 0)
  const joining = join(node.gapFiller, X)
  await answerAll(node)
  assert.equal((await joining)?.seq, 3)
  assert.equal(node.seen.get(X)!.ids.size, 0)
  assert.equal((await join(node.gapFiller, X))?.seq, 3)
})

test('while a topic is compared with its history, where it stands is asked of Redis', async () => {
  let head = { id: 't.3.3-0', seq: 3 }
  const gapFiller = new GapFiller(
    {
      heads: async topics => new Map(topics.map(topic => [topic, head])),
      read: async () => ({ gap: 'history_replaced', head, entries: [], isComplete: true }),
      different: async known => known.map(([topic]) => topic),
    },
    {
      deliver() {},
      lost() {},
      isRecorded: () => true,
      topics: () => [X],
      filled() {},
      dropped() {},
      failed: error => assert.fail(String(error)),
    },
  )
  assert.deepEqual(await join(gapFiller, X), head)
  // A Redis that went back: who comes now with the last id of before must not be told that it missed nothing.
  head = { id: 't.1.1-0', seq: 1 }
  gapFiller.restored()
  assert.deepEqual(await join(gapFiller, X), head)
  await gapFiller.compareAll()
  assert.deepEqual(await join(gapFiller, X), head)
  gapFiller.close()
})

test('what comes before Redis has said where the topic stands is where it stands', async () => {
  const node = new Node()
  const joining = join(node.gapFiller, X)
  const again = join(node.gapFiller, X)
  node.redis.execute()
  node.redis.execute()
  const { expected } = { expected: node.redis.headOf(X).id }
  node.seen.get(X)!.expected = expected
  node.record(X)
  node.hear()
  node.redis.answer()
  node.redis.answer()
  assert.deepEqual([(await joining)?.seq, (await again)?.seq], [1, 1])
  assert.equal(node.redis.isIdle, true)
})

test('a thousand and one topics are compared in three questions, and the broken off is begun anew', async () => {
  const asked: number[] = []
  const topics = Array.from({ length: 1001 }, (_, i) => `channel:${i}` as Topic)
  const head = { id: 't0.0.1-0', seq: 0 }
  const gapFiller = new GapFiller(
    {
      heads: async () => new Map(topics.map(topic => [topic, head])),
      read: async () => ({ head, entries: [], isComplete: true }),
      different: async known => {
        asked.push(known.length)
        return []
      },
    },
    {
      deliver: () => {},
      lost: () => assert.fail('nothing was lost'),
      isRecorded: () => true,
      topics: () => topics,
      filled: () => {},
      dropped: () => {},
      failed: error => assert.fail(String(error)),
    },
  )
  for (const topic of topics) await join(gapFiller, topic)
  gapFiller.restored()
  assert.equal(gapFiller.filling, 1001)
  await gapFiller.compareAll()
  assert.deepEqual(asked, [500, 500, 1])
  assert.equal(gapFiller.filling, 0)
  gapFiller.restored()
  const comparing = gapFiller.compareAll()
  gapFiller.interrupted()
  await comparing
  assert.equal(gapFiller.filling, 1001)
  gapFiller.restored()
  await gapFiller.compareAll()
  assert.equal(gapFiller.filling, 0)
  gapFiller.close()
})

test('topics that have much to read hold up no others', async t => {
  const head = { id: 't0.0.1-0', seq: 0 }
  const endless = Array.from({ length: 50 }, (_, i) => `channel:hot${i}` as Topic)
  const few = Array.from({ length: 50 }, (_, i) => `channel:few${i}` as Topic)
  const quiet = Array.from({ length: 1000 }, (_, i) => `channel:quiet${i}` as Topic)
  const topics = [...endless, ...quiet, ...few]
  let isOver = false
  let atOnce = 0
  let most = 0
  const gapFiller = new GapFiller(
    {
      heads: async () => new Map(topics.map(topic => [topic, head])),
      async read(topic) {
        most = Math.max(most, ++atOnce)
        await turn()
        atOnce--
        return { head, entries: [], isComplete: isOver || !endless.includes(topic) }
      },
      different: async known => known.map(([topic]) => topic).filter(topic => !quiet.includes(topic)),
    },
    {
      deliver: () => {},
      lost: () => assert.fail('nothing was lost'),
      isRecorded: () => true,
      topics: () => topics,
      filled: () => {},
      dropped: () => {},
      failed: error => assert.fail(String(error)),
    },
  )
  t.after(() => gapFiller.close())
  await gapFiller.join(topics)
  gapFiller.restored()
  const comparing = gapFiller.compareAll()
  await until(() => gapFiller.filling === endless.length, 'only those with much to read are being filled')
  isOver = true
  await within(comparing, 'all topics are filled')
  assert.equal(gapFiller.filling, 0)
  assert.ok(most <= 8, `${most} pages were asked for at once`)
})

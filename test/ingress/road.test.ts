import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { DeathCause, QueuedMessage, StreamQueue } from '../../src/broker/stream-queue.ts'
import type { IngressParts } from '../../src/ingress/ingress.ts'
import type { Verdict } from '../../src/ingress/intake.ts'
import { parseStreamsIngress, type StreamsIngressInput } from '../../src/ingress/streams/options.ts'
import { StreamRoad } from '../../src/ingress/streams/road.ts'
import { errors } from '../../src/protocol/errors.ts'
import { until, within } from '../helpers/waiting.ts'

const PUBLISHED: Verdict = { outcome: 'published', isDuplicate: false }
const AWAY: Verdict = { outcome: 'failed', code: 'PUSH_ERR_BROKER_AWAY', message: 'no Redis', isTemporary: true }
const WRONG: Verdict = { outcome: 'failed', code: 'PUSH_ERR_UNSUPPORTED', message: 'cannot', isTemporary: false }

type Asked = { id: string; answer(verdict: Verdict): void }

/** A queue in memory, which breaks when a test says so; and an intake that the test answers for. */
class World implements StreamQueue {
  waiting: QueuedMessage[] = []
  claimable: QueuedMessage[] = []
  readonly acknowledged: string[] = []
  readonly buried: [id: string, cause: DeathCause][] = []
  readonly noted: [id: string, tries: number][] = []
  readonly excused: string[] = []
  /** Messages of the node that are not acknowledged. */
  readonly pending = new Set<string>()
  most = 0
  broken: Partial<Record<keyof StreamQueue, string>> = {}
  own: (id: string) => boolean = () => true
  kept = 0
  led = 0
  leadership: 'no' | 'new' | 'still' = 'no'
  isClosed = false
  isConnected = true
  /** How often it was asked whether it is connected, and for messages. */
  looks = 0
  reads = 0
  readonly taken: Asked[] = []
  answer: ((id: string) => Verdict) | undefined = () => PUBLISHED
  letters = 0
  readonly lines: { reason?: string; message: string }[] = []
  #wake = () => {}

  add(from: number, to: number): void {
    for (let i = from; i < to; i++) this.waiting.push({ id: `${i}-0`, body: Buffer.from('{}'), tries: 1 })
    this.#wake()
  }

  #try(what: keyof StreamQueue): void {
    if (this.broken[what]) throw new errors.BROKER_AWAY(this.broken[what])
  }

  #give(from: QueuedMessage[], count: number): QueuedMessage[] {
    const given = from.splice(0, count)
    for (const { id } of given) this.pending.add(id)
    this.most = Math.max(this.most, this.pending.size)
    return given
  }

  async read(count: number): Promise<QueuedMessage[]> {
    this.reads++
    this.#try('read')
    if (this.isClosed) throw new errors.CLOSED()
    if (this.waiting.length === 0) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
    return this.#give(this.waiting, count)
  }

  async claim(count: number): Promise<QueuedMessage[]> {
    this.reads++
    this.#try('claim')
    return this.#give(this.claimable, count)
  }

  async lead(): Promise<'no' | 'new' | 'still'> {
    this.led++
    this.#try('lead')
    return this.leadership
  }

  async keep(ids: readonly string[]): Promise<ReadonlySet<string>> {
    this.kept++
    this.#try('keep')
    return new Set(ids.filter(id => this.own(id)))
  }

  async noteTries(id: string, tries: number): Promise<void> {
    this.noted.push([id, tries])
    this.#try('noteTries')
  }

  async excuse(ids: readonly string[]): Promise<void> {
    this.excused.push(...ids)
    this.#try('excuse')
  }

  async acknowledge(ids: readonly string[]): Promise<void> {
    this.#try('acknowledge')
    for (const id of ids) this.pending.delete(id)
    this.acknowledged.push(...ids)
  }

  async bury({ id }: QueuedMessage, cause: DeathCause): Promise<void> {
    this.#try('bury')
    this.buried.push([id, cause])
    this.pending.delete(id)
  }

  async tend(): Promise<number> {
    this.#try('tend')
    return this.waiting.length + this.pending.size
  }

  stopReading(): void {
    this.isClosed = true
    this.#wake()
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  take(_body: unknown, key: string): Promise<Verdict> {
    const id = key.replace('ingress/', '')
    return new Promise(resolve => {
      this.taken.push({ id, answer: resolve })
      if (this.answer) resolve(this.answer(id))
    })
  }
}

function start(t: TestContext, world: World, options: Partial<StreamsIngressInput> = {}): StreamRoad {
  const parts = {
    intake: { take: world.take.bind(world), countDeadLetters: () => world.letters++ },
    broker: {
      kind: 'redis',
      get connected() {
        world.looks++
        return world.isConnected
      },
    },
    log: { warn: (fields: object, message: string) => void world.lines.push({ ...fields, message }) },
    node: 'n',
    closeTimeout: 200,
  } as unknown as IngressParts
  const road = new StreamRoad(world, parseStreamsIngress({ topics: ['all'], ...options }), parts)
  t.after(() => within(road.close(), 'the end of a road'))
  return road
}

const ids = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `${from + i}-0`)

test('published first, acknowledged then', async t => {
  const world = new World()
  world.answer = undefined
  start(t, world)
  world.add(0, 1)
  await until(() => world.taken.length === 1, 'it is taken')
  assert.deepEqual(world.acknowledged, [])
  world.taken[0]!.answer(PUBLISHED)
  await until(() => world.acknowledged.length === 1, 'it is acknowledged')
})

test('never more than count are taken and not acknowledged, and all come in order', async t => {
  const world = new World()
  world.answer = undefined
  world.add(0, 50)
  start(t, world, { count: 7 })
  for (let i = 0; i < 50; i++) {
    await until(() => world.taken.length > i, `message ${i} is taken`)
    world.taken[i]!.answer(PUBLISHED)
  }
  await until(() => world.acknowledged.length === 50, 'all are acknowledged')
  assert.equal(world.most, 7)
  assert.deepEqual(
    world.taken.map(({ id }) => id),
    ids(0, 50),
  )
  assert.deepEqual(world.acknowledged, ids(0, 50))
})

test('what nodes that are gone have left comes before what is new', async t => {
  const world = new World()
  world.claimable = [{ id: '0-0', body: Buffer.from('{}'), tries: 2 }]
  world.add(1, 3)
  start(t, world)
  await until(() => world.acknowledged.length === 3, 'all are acknowledged')
  assert.deepEqual(world.acknowledged, ids(0, 3))
})

test('an outage makes no dead letters, however long: the same messages are tried until it is over', async t => {
  const world = new World()
  let failures = 0
  world.answer = () => (failures++ < 12 ? AWAY : PUBLISHED)
  const road = start(t, world, { tries: 1 })
  world.add(0, 4)
  await until(() => road.problem === 'no Redis', 'the status says so')
  await until(() => world.acknowledged.length === 4, 'all are acknowledged')
  assert.deepEqual([world.acknowledged, world.buried, world.noted], [ids(0, 4), [], []])
  await until(() => road.problem === undefined, 'the status says that it works again')
  assert.match(world.lines[0]!.message, /does not get on/)
})

test('what a node holds in an outage is excused, and what fails by its own fault is not', async t => {
  const world = new World()
  world.broken = { excuse: 'no XCLAIM' }
  world.answer = id => (id === '1-0' ? WRONG : AWAY)
  start(t, world)
  world.add(0, 2)
  await until(() => world.buried.length === 1, 'the other one is a dead letter')
  assert.ok(world.excused.length > 1, 'again, since it failed')
  assert.deepEqual(new Set(world.excused), new Set(['0-0']))
})

test('while Redis is away nothing is read and nothing is tried', async t => {
  const world = new World()
  world.answer = () => {
    world.isConnected = false
    return AWAY
  }
  const road = start(t, world)
  world.add(0, 1)
  await until(() => /Redis is away/.test(road.problem ?? ''), 'the status says so')
  const calls = [world.taken.length, world.reads]
  const { looks } = world
  await until(() => world.looks > looks + 3, 'it looks whether Redis is there, several times')
  assert.deepEqual([world.taken.length, world.reads], calls)
  world.answer = () => PUBLISHED
  world.isConnected = true
  await until(() => world.acknowledged.length === 1, 'it is acknowledged')
  await until(() => road.problem === undefined, 'the status says that it works again')
})

test('what fails otherwise is tried so often, noted each time, and buried; the others are published', async t => {
  const world = new World()
  world.answer = id => (id === '1-0' ? WRONG : PUBLISHED)
  start(t, world, { tries: 3 })
  world.add(0, 3)
  await until(() => world.buried.length === 1, 'it is a dead letter')
  assert.deepEqual(world.buried, [['1-0', { code: 'PUSH_ERR_UNSUPPORTED', message: 'cannot', tries: 3 }]])
  assert.deepEqual(world.noted, [
    ['1-0', 2],
    ['1-0', 3],
  ])
  assert.equal(world.taken.filter(({ id }) => id === '1-0').length, 3)
  assert.equal(world.letters, 1)
  await until(() => world.acknowledged.length === 2, 'the others are acknowledged')
})

test('what cannot be acknowledged or buried is not published again: the acknowledgement is repeated', async t => {
  const world = new World()
  world.answer = id => (id === '0-0' ? { outcome: 'refused', code: 'PUSH_ERR_JSON', message: 'no' } : PUBLISHED)
  world.broken = { acknowledge: 'no XACK', bury: 'no XADD' }
  const road = start(t, world)
  world.add(0, 2)
  await until(() => road.problem === 'no XACK', 'the status says so')
  delete world.broken.acknowledge
  await until(() => road.problem === 'no XADD', 'and then the next one')
  world.broken = {}
  await until(() => world.buried.length === 1, 'it is a dead letter')
  assert.deepEqual([world.acknowledged, world.taken.length], [['1-0'], 2])
})

test('what another node has claimed meanwhile is not tried again', async t => {
  const world = new World()
  world.own = id => id !== '0-0'
  let isAway = true
  world.answer = () => (isAway ? AWAY : PUBLISHED)
  start(t, world, { claimAfter: 200 })
  world.add(0, 2)
  await until(() => world.kept > 1, 'it says that it is at work')
  const before = world.taken.length
  isAway = false
  await until(() => world.acknowledged.length > 0, 'the other one is acknowledged')
  assert.deepEqual(world.acknowledged, ['1-0'])
  assert.ok(world.taken.slice(before).every(({ id }) => id === '1-0'))
})

for (const [tries, what] of [
  [5, 'counted'],
  [1, 'buried'],
] as const) {
  test(`a message that fails after another node has claimed it is not ${what} here`, async t => {
    const world = new World()
    world.own = id => id !== '0-0'
    world.answer = undefined
    start(t, world, { claimAfter: 200, tries })
    world.add(0, 1)
    await until(() => world.taken.length === 1, 'it is taken')
    await until(() => world.kept > 0, 'it is known that another node has it')
    world.taken[0]!.answer(WRONG)
    world.add(1, 2)
    await until(() => world.taken.length === 2, 'the next one is taken')
    assert.deepEqual([world.taken[1]!.id, world.noted, world.buried], ['1-0', [], []])
  })
}

test('in strict order a message is tried until it is done before the next one is', async t => {
  const world = new World()
  world.leadership = 'new'
  let failures = 0
  world.answer = id => (id === '1-0' && failures++ < 2 ? AWAY : PUBLISHED)
  start(t, world, { strictOrder: true, count: 3 })
  world.add(0, 5)
  await until(() => world.acknowledged.length === 5, 'all are acknowledged')
  assert.deepEqual(
    world.taken.map(({ id }) => id),
    ['0-0', '1-0', '1-0', ...ids(1, 5)],
  )
  assert.ok(world.most <= 3)
})

test('in strict order only the leader reads, and first what another one had', async t => {
  const world = new World()
  world.claimable = [{ id: '0-0', body: Buffer.from('{}'), tries: 2 }]
  world.add(1, 3)
  start(t, world, { strictOrder: true, claimAfter: 200 })
  await until(() => world.led > 2, 'it asks whether it leads')
  assert.equal(world.taken.length, 0)
  world.leadership = 'new'
  await until(() => world.acknowledged.length === 3, 'all are acknowledged')
  assert.deepEqual(
    world.taken.map(({ id }) => id),
    ids(0, 3),
  )
  world.leadership = 'still'
  const asked = world.led
  await until(() => world.led > asked + 1, 'it renews its leadership, though nothing comes')
})

test('in strict order a leader that could not renew its leadership for too long asks before it goes on', async t => {
  const world = new World()
  world.leadership = 'new'
  world.answer = id => {
    if (id === '0-0') world.isConnected = false
    return id === '0-0' ? AWAY : PUBLISHED
  }
  start(t, world, { strictOrder: true, claimAfter: 200 })
  world.add(0, 3)
  await until(() => world.taken.length === 1, 'the first is taken')
  world.broken = { lead: 'no GET', keep: 'no XPENDING' }
  world.leadership = 'no'
  const { looks } = world
  await until(() => world.looks > looks + 3, 'the leadership is over')
  world.isConnected = true
  const { led } = world
  await until(() => world.led > led + 1, 'it asks for it')
  world.broken = {}
  await until(() => world.led > led + 3, 'it asks as one that does not lead')
  assert.deepEqual([world.taken.length, world.acknowledged], [1, []])
  // What another node led meanwhile, and left, comes first.
  world.claimable = [{ id: '2-0', body: Buffer.from('{}'), tries: 2 }]
  world.add(3, 4)
  world.leadership = 'new'
  await until(() => world.acknowledged.length > 0, 'it leads again')
  world.leadership = 'still'
  await until(() => world.acknowledged.length === 2, 'all are acknowledged')
  assert.deepEqual(
    world.taken.map(({ id }) => id),
    ['0-0', '2-0', '3-0'],
  )
})

test('in strict order a node that only waits reports no problem that is over', async t => {
  const world = new World()
  world.broken = { lead: 'no GET' }
  const road = start(t, world, { strictOrder: true, claimAfter: 200 })
  await until(() => road.problem === 'no GET', 'the status says so')
  world.broken = {}
  await until(() => road.problem === undefined, 'the status says that it is over')
  assert.equal(world.taken.length, 0)
})

test('in strict order an answer that was lost on its way is asked for again before anything else', async t => {
  const world = new World()
  world.leadership = 'new'
  world.broken = { read: 'the link is lost' }
  const road = start(t, world, { strictOrder: true })
  await until(() => road.problem === 'the link is lost', 'the status says so')
  world.claimable = [{ id: '0-0', body: Buffer.from('{}'), tries: 2 }]
  world.add(1, 2)
  world.leadership = 'still'
  world.broken = {}
  await until(() => world.acknowledged.length === 2, 'both are acknowledged')
  assert.deepEqual(
    world.taken.map(({ id }) => id),
    ids(0, 2),
  )
})

test('a sign of life that fails changes nothing', async t => {
  const world = new World()
  world.broken = { keep: 'no', tend: 'no' }
  let isAway = true
  world.answer = () => (isAway ? AWAY : PUBLISHED)
  const road = start(t, world, { claimAfter: 200 })
  world.add(0, 2)
  await until(() => world.kept > 1, 'it says that it is at work')
  isAway = false
  await until(() => world.acknowledged.length === 2, 'all are acknowledged')
  assert.equal(road.lag, undefined)
})

test('the end: nothing new is taken, and what was taken is finished', async t => {
  const world = new World()
  world.answer = undefined
  const road = start(t, world, { count: 1 })
  world.add(0, 3)
  await until(() => world.taken.length === 1, 'one is taken')
  const closing = road.close()
  world.taken[0]!.answer(PUBLISHED)
  await within(closing, 'the end')
  assert.deepEqual([world.acknowledged, world.taken.length, world.isClosed], [['0-0'], 1, true])
})

test('the end does not wait for what does not finish, and not for an outage', async t => {
  const hanging = new World()
  hanging.answer = undefined
  const road = start(t, hanging)
  hanging.add(0, 1)
  await until(() => hanging.taken.length === 1, 'it is taken')
  await within(road.close(), 'the end')
  assert.deepEqual(hanging.acknowledged, [])

  const away = new World()
  away.answer = () => AWAY
  const other = start(t, away)
  away.add(0, 1)
  await until(() => other.problem === 'no Redis', 'it waits')
  await within(other.close(), 'the end')
  assert.deepEqual([away.acknowledged, away.buried], [[], []])
})

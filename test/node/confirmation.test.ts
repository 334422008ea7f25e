import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { within } from '../../src/broker/waiting.ts'
import { Answer, Answers } from '../../src/delivery/answers.ts'
import type { Known, Start } from '../../src/delivery/recovery.ts'
import { Confirmation } from '../../src/node/confirmation.ts'
import type { Position } from '../../src/protocol/position.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { setUp as fakeConnection } from '../helpers/connection.ts'
import { within as inTime, PATIENCE } from '../helpers/waiting.ts'

const POSITION: Position = { id: 't.1.1-0', seq: 1 }

/** What a shard answers about these topics after this many milliseconds. */
function answerAfter(milliseconds: number, ...topics: Topic[]): Answer {
  const answer = new Answer(milliseconds)
  for (const topic of topics) answer.add(topic)
  const positions = new Map(topics.map(topic => [topic, POSITION]))
  void sleep(milliseconds, positions, { ref: milliseconds < 5000 }).then(it => answer.end(it))
  return answer
}

const startOf = (topics: Topic[], ...parts: Answer[]): Start => ({
  topics,
  answers: new Answers(parts),
  returning: new Map(),
})

/** Topics that the broker confirms after this many milliseconds. */
function confirmedAfter(milliseconds: number): Start {
  return startOf(['all'], answerAfter(milliseconds, 'all'))
}

const isKnown = (known: Known) => known.missing(['all']).length === 0

function confirmation(has = true): Confirmation {
  return new Confirmation({ has: () => has }, 1000, error => assert.fail(String(error)))
}

/** Keeps the event loop busy until `done` says otherwise, or the test has failed for long. */
async function work(done: () => boolean): Promise<void> {
  const end = performance.now() + PATIENCE
  while (!done() && performance.now() < end) {
    const until = performance.now() + 5
    while (performance.now() < until);
    await new Promise(setImmediate)
  }
}

test('a broker that does not answer within a second is away', async () => {
  const { connection } = fakeConnection()
  const known = confirmation().known(connection, confirmedAfter(10_000))
  assert.equal(isKnown(await inTime(known, 'the broker is taken for away')), false)
})

test('a node that is busy itself does not take that for an absence of the broker', async () => {
  let isOver = false
  const working = work(() => isOver)
  const { connection } = fakeConnection()
  const full = fakeConnection().connection
  full.send('a', 'x'.repeat(600))
  const asking = [
    confirmation().known(connection, confirmedAfter(1400)),
    confirmation().known(connection, confirmedAfter(10_000), true),
    confirmation().known(full, confirmedAfter(10_000)),
  ]
  const [known, asked, waiting] = await Promise.all(asking).finally(() => {
    isOver = true
  })
  assert.deepEqual(known!.get('all'), POSITION)
  assert.equal(isKnown(asked!), false, 'a publisher waits for longer than it has')
  assert.equal(isKnown(waiting!), false, 'a connection for which much waits already is kept waiting')
  await working
})

test('who waits for the same answer waits together, and whoever comes later does not', async () => {
  const confirmations = confirmation()
  const [first, second] = [fakeConnection().connection, fakeConnection().connection]
  const start = confirmedAfter(1)
  const known = confirmations.known(first, start)
  assert.equal(confirmations.known(second, start), known)
  assert.deepEqual((await known).get('all'), POSITION)
  const never = confirmations.known(first, confirmedAfter(10_000))
  assert.deepEqual((await confirmations.known(second, confirmedAfter(1))).get('all'), POSITION)
  assert.equal(isKnown(await never), false)
})

test('of two shards of which one is away, who has topics of the other waits for nothing, and who has both is told half', async () => {
  const [well, away] = [answerAfter(1, 'all'), answerAfter(10_000, 'user:1')]
  const confirmations = confirmation()
  const both = confirmations.known(fakeConnection().connection, startOf(['all', 'user:1'], well, away))
  let isWaiting = true
  void both.then(() => {
    isWaiting = false
  })
  const known = await confirmations.known(fakeConnection().connection, startOf(['all'], well))
  assert.equal(isWaiting, true)
  assert.deepEqual([known.get('all'), known.missing(['all'])], [POSITION, []])
  const half = await both
  assert.deepEqual([half.get('all'), half.get('user:1')], [POSITION, undefined])
  assert.deepEqual(half.missing(['all', 'user:1']), ['user:1'])
})

test('of two topics that a client comes back to, the one whose history was read in time is known', async () => {
  const state = { ...POSITION, recovered: true }
  const answers = new Answers([answerAfter(1, 'all'), answerAfter(10_000, 'user:1', 'channel:1')])
  const returning: Start['returning'] = new Map([
    ['all', Promise.resolve({ state, replay: async () => {} })],
    ['user:1', new Promise<never>(() => {})],
  ])
  const known = await confirmation().known(fakeConnection().connection, {
    topics: ['all', 'user:1', 'channel:1'],
    answers,
    returning,
  })
  assert.deepEqual(known.get('all'), state)
  assert.deepEqual(known.missing(['all', 'user:1', 'channel:1']).toSorted(), ['channel:1', 'user:1'])
})

test('who was not told in time is told where the topics stand that it still has', async () => {
  for (const has of [true, false]) {
    const { connection, transport } = fakeConnection()
    connection.open('{}')
    const start = confirmedAfter(1)
    confirmation(has).follow(connection, start, ['all'])
    await start.answers.begun
    await new Promise(setImmediate)
    connection.flush()
    const gap = { topics: ['all'], reason: 'broker_away', positions: { all: POSITION } }
    const told = transport.texts.slice(1).map(text => JSON.parse(text))
    assert.deepEqual(told, has ? [{ type: 'gap', payload: gap }] : [])
  }
})

test('patience has a bound, and a rejection is no answer', async () => {
  const never = new Promise<never>(() => {})
  let asked = 0
  const unless = () => ++asked > 0
  assert.equal(await within(5, never, { unless, times: 3 }), undefined)
  assert.equal(asked, 2)
  assert.equal(await within(1000, Promise.reject(new Error('no'))), undefined)
  assert.equal(await within(1000, Promise.resolve(1)), 1)
})

test('what was late is told for each shard when that answers, and only what was late', async () => {
  const [early, first, second] = [answerAfter(1, 'all'), answerAfter(2, 'user:1', 'channel:1'), new Answer(3)]
  second.add('channel:2')
  const { connection, transport } = fakeConnection()
  connection.open('{}')
  const start = startOf(['all', 'user:1', 'channel:2'], early, first, second)
  confirmation().follow(connection, start, ['user:1', 'channel:2'])
  await first.begun
  await new Promise(setImmediate)
  second.end(new Map([['channel:2', { id: 't.2.1-0', seq: 2 }]]))
  await new Promise(setImmediate)
  connection.flush()
  const gap = (positions: Record<string, Position>) => ({
    topics: Object.keys(positions),
    reason: 'broker_away',
    positions,
  })
  assert.deepEqual(
    transport.messages.slice(1).map(({ payload }) => payload),
    [gap({ 'user:1': POSITION }), gap({ 'channel:2': { id: 't.2.1-0', seq: 2 } })],
  )
})

test('a topic that is refused keeps those waiting that have it, and nobody who came together with them', async () => {
  const answer = new Answer(1)
  for (const topic of ['all', 'user:1', 'user:2'] as const) answer.add(topic)
  const confirmations = confirmation()
  const [{ connection, transport }, other] = [fakeConnection(), fakeConnection().connection]
  const start = startOf(['all', 'user:1'], answer)
  const known = confirmations.known(connection, start)
  assert.equal(confirmations.known(other, { ...start, topics: ['all', 'user:2'] }), known)
  answer.confirm(['all', 'user:2'], new Map([['all', POSITION]]))
  assert.deepEqual((await known).get('all'), POSITION)
  assert.deepEqual(confirmations.late({ ...start, topics: ['all', 'user:2'] }, await known), [])
  assert.deepEqual(await confirmations.late(start, await known), ['user:1'])
  connection.open('{}')
  confirmations.follow(connection, start, ['user:1'])
  answer.end(new Map([['user:1', POSITION]]))
  await new Promise(setImmediate)
  connection.flush()
  const gap = { topics: ['user:1'], reason: 'broker_away', positions: { 'user:1': POSITION } }
  assert.deepEqual(transport.messages.at(-1)!.payload, gap)
})

test('a topic that is refused for a moment only is waited for', async () => {
  const answer = new Answer(1)
  for (const topic of ['all', 'user:1'] as const) answer.add(topic)
  const confirmations = confirmation()
  const start = startOf(['all', 'user:1'], answer)
  const known = confirmations.known(fakeConnection().connection, start)
  answer.confirm(['all'], new Map())
  const late = confirmations.late(start, await known)
  answer.end(new Map([['user:1', POSITION]]))
  assert.deepEqual([await late, (await known).get('user:1')], [[], POSITION])
})

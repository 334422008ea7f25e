import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Round, Rounds } from '../../src/delivery/rounds.ts'
import { published, setUp, WELCOME } from '../helpers/connection.ts'

/** A connection, what its rounds were told of, and a turn of the node with so many publications for it. */
function node() {
  const { connection, transport, writeQueue } = setUp()
  connection.open(WELCOME)
  const rounds = new Rounds(writeQueue)
  const told: Round[] = []
  const turn = (publications: number) => {
    for (let n = 0; n < publications; n++) {
      rounds.gather(performance.now())
      connection.push(published('channel:a', n))
    }
    return rounds.flush('calm')
  }
  return { connection, transport, writeQueue, rounds, told, turn, watch: () => rounds.watch(round => told.push(round)) }
}

/** Rounds that follow each other within a millisecond are not told of. By the clock: a timer may come a millisecond early. */
async function nextSample(): Promise<void> {
  const from = performance.now()
  while (performance.now() - from < 1) await new Promise(setImmediate)
}

test('nobody watches, and everything is written', () => {
  const { turn, told, transport, writeQueue } = node()
  assert.equal(turn(2), 0)
  assert.equal(transport.messages.length, 3)
  assert.deepEqual([told, writeQueue.isIdle], [[], true])
})

test('a round is told with what it wrote and how old that was', async () => {
  const { turn, told, watch, transport } = node()
  watch()
  const before = Buffer.concat(transport.writes).length
  const began = performance.now()
  turn(3)
  assert.equal(told.length, 1)
  const [round] = told
  assert.equal(round!.connections, 1)
  assert.equal(round!.bytes, Buffer.concat(transport.writes).length - before)
  assert.ok(round!.age! >= 0 && round!.age! <= performance.now() - began, `${round!.age}`)
})

test('the age counts from the oldest publication, also when a turn has to rest', async () => {
  const { rounds, connection, told, watch } = node()
  watch()
  const first = performance.now()
  rounds.gather(first)
  connection.push(published('channel:a', 1))
  await nextSample()
  const second = performance.now()
  rounds.gather(second)
  connection.push(published('channel:a', 2))
  rounds.flush('calm')
  assert.ok(told[0]!.age! >= second - first, `${told[0]!.age}, not ${second - first}`)
})

test('a round of answers alone has no age', async () => {
  const { connection, rounds, told, watch } = node()
  watch()
  connection.send('reply', {})
  rounds.flush('calm')
  assert.deepEqual([told.length, told[0]!.age], [1, undefined])
})

test('what nobody here has leaves no age behind', async () => {
  const { rounds, turn, connection, told, watch } = node()
  watch()
  rounds.gather(performance.now())
  rounds.flush('calm')
  assert.equal(told.length, 0)
  await nextSample()
  connection.send('reply', {})
  rounds.flush('calm')
  assert.equal(told[0]!.age, undefined)
  await nextSample()
  const began = performance.now()
  turn(1)
  assert.ok(told[1]!.age! <= performance.now() - began)
})

test('at most one round in a millisecond is told of', () => {
  const { turn, told, watch } = node()
  watch()
  const began = performance.now()
  for (let n = 0; n < 1000; n++) turn(1)
  const most = performance.now() - began + 1
  assert.ok(told.length >= 1 && told.length <= most, `${told.length} of 1,000 in ${most} ms`)
})

test('who no longer watches is told nothing', async () => {
  const { turn, told, watch } = node()
  watch()()
  turn(1)
  assert.deepEqual(told, [])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { within } from '../../src/broker/waiting.ts'
import type { Start } from '../../src/delivery/recovery.ts'
import { Confirmation } from '../../src/node/confirmation.ts'
import type { Position } from '../../src/protocol/position.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { setUp as fakeConnection } from '../helpers/connection.ts'

const POSITION: Position = { id: 't.1.1-0', seq: 1 }

/** Topics that the broker confirms after this many milliseconds. */
function confirmedAfter(milliseconds: number): Start {
  return {
    fresh: ['all'],
    confirmed: sleep(milliseconds, new Map([['all' as Topic, POSITION]]), { ref: milliseconds < 5000 }),
    returning: new Map(),
  }
}

function confirmation(has = true): Confirmation {
  return new Confirmation({ has: () => has }, 1000, error => assert.fail(String(error)))
}

/** Keeps the event loop busy until `done` says otherwise. */
async function work(done: () => boolean): Promise<void> {
  while (!done()) {
    const until = performance.now() + 5
    while (performance.now() < until);
    await new Promise(setImmediate)
  }
}

test('a broker that does not answer within a second is away', async () => {
  const began = performance.now()
  const { connection } = fakeConnection()
  assert.equal(await confirmation().known(connection, confirmedAfter(10_000)), undefined)
  assert.ok(performance.now() - began < 5000)
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
  assert.deepEqual(known?.get('all'), POSITION)
  assert.equal(asked, undefined, 'a publisher waits for longer than it has')
  assert.equal(waiting, undefined, 'a connection for which much waits already is kept waiting')
  await working
})

test('who waits for the same answer waits together, and whoever comes later does not', async () => {
  const confirmations = confirmation()
  const [first, second] = [fakeConnection().connection, fakeConnection().connection]
  const start = confirmedAfter(1)
  const known = confirmations.known(first, start)
  assert.equal(confirmations.known(second, start), known)
  assert.deepEqual((await known)?.get('all'), POSITION)
  const never = { ...start, confirmed: new Promise<never>(() => {}) }
  assert.equal(await confirmations.known(first, never), undefined)
  assert.deepEqual((await confirmations.known(second, confirmedAfter(1)))?.get('all'), POSITION)
})

test('who was not told in time is told where the topics stand that it still has', async () => {
  for (const has of [true, false]) {
    const { connection, transport } = fakeConnection()
    connection.open('{}')
    const start = confirmedAfter(1)
    confirmation(has).follow(connection, start, false)
    await start.confirmed
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

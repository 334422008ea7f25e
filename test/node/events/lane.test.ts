import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Entry, Lane } from '../../../src/node/events/lane.ts'
import { within } from '../../helpers/waiting.ts'

const LONG = 600_000

const settled = (entries: readonly Promise<Entry>[]) => within(Promise.all(entries), 'all know whether they may begin')

test('so many at a time; whoever leaves lets in whoever has waited longest', async () => {
  const lane = new Lane(2)
  assert.deepEqual(await settled([lane.enter(LONG), lane.enter(LONG)]), ['in', 'in'])
  const order: number[] = []
  const waiting = [1, 2].map(async n => {
    const entry = await lane.enter(LONG)
    order.push(n)
    return entry
  })
  lane.leave()
  assert.equal(await within(waiting[0]!, 'the first'), 'in')
  assert.deepEqual(order, [1])
  lane.leave()
  assert.equal(await within(waiting[1]!, 'the second'), 'in')
  lane.leave()
  lane.leave()
  assert.deepEqual(await settled([lane.enter(LONG), lane.enter(LONG)]), ['in', 'in'])
})

test('nobody waits for longer than it has time, and whoever gave up takes no place', async () => {
  const lane = new Lane(1)
  await settled([lane.enter(LONG)])
  assert.deepEqual(await settled([lane.enter(5)]), ['late'])
  const next = lane.enter(LONG)
  lane.leave()
  assert.deepEqual(await settled([next]), ['in'])
})

test('a thousand may wait, and closing tells them', async () => {
  const lane = new Lane(1)
  await settled([lane.enter(LONG)])
  const waiting = Array.from({ length: 1000 }, () => lane.enter(LONG))
  assert.deepEqual(await settled([lane.enter(LONG)]), ['full'])
  lane.close()
  assert.deepEqual(new Set(await settled(waiting)), new Set(['closed']))
  assert.deepEqual(await settled([lane.enter(LONG)]), ['closed'])
})

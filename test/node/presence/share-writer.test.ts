import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PresenceChange, PresenceReply, PresenceStore } from '../../../src/broker/presence.ts'
import { Share } from '../../../src/node/presence/share.ts'
import { ShareWriter } from '../../../src/node/presence/share-writer.ts'
import type { PresenceRule } from '../../../src/options/presence.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { until } from '../../helpers/waiting.ts'

const RULE: PresenceRule = { info: false, grace: 0, members: 500 }
/** Every look at the leases finds one to renew. */
const LEASE = 30

/** A broker whose answers about one topic wait until they are let go. */
class SlowStore {
  readonly writes: PresenceChange[] = []
  /** Each topic is of a shard of its own, or all of one. */
  shardOf: (topic: string) => unknown = () => 'the only one'
  #waiting: (() => void)[] = []
  slow: string

  constructor(slow: string) {
    this.slow = slow
  }

  readonly write = async (changes: readonly PresenceChange[]): Promise<PresenceReply[]> => {
    this.writes.push(...changes)
    if (changes.some(({ topic }) => topic === this.slow))
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    return changes.map(({ next, users }) => {
      const isLeft = [...users.values()].every(({ connections }) => connections === 0) && users.size > 0
      return { isWritten: true, base: isLeft ? '0' : next, epoch: 'e', version: 1, mark: 'm', lapsed: [] }
    })
  }

  letGo(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  of(topic: string): PresenceChange[] {
    return this.writes.filter(change => change.topic === topic)
  }
}

test('a share that has ended is not written again, however long its last write took', async t => {
  const store = new SlowStore('channel:slow')
  const ended: string[] = []
  const writer = new ShareWriter(
    store as unknown as PresenceStore,
    { owner: 'n.1', lease: LEASE },
    { seen: () => {}, ended: ({ topic }) => void ended.push(topic), failed: () => {} },
  )
  t.after(() => writer.close())
  const [slow, other] = ['channel:slow', 'channel:other'].map(topic => new Share(topic as Topic, RULE)) as [
    Share,
    Share,
  ]
  const ann = { id: 'c1', user: 'ann', info: '' }
  for (const share of [slow, other]) {
    share.enter(ann, Date.now())
    writer.changed(share)
  }
  await until(() => store.of(slow.topic).length === 1, 'ann is written')
  store.letGo()
  await until(() => slow.base !== '0', 'ann is there')
  slow.leave(ann, performance.now())
  writer.changed(slow)
  await until(() => store.of(slow.topic).some(({ users }) => users.get('ann')?.connections === 0), 'she leaves')
  // The other topic shows that leases were looked at meanwhile.
  const renewals = store.of(other.topic).length
  await until(() => store.of(other.topic).length > renewals + 1, 'leases were renewed')
  const writes = store.of(slow.topic).length
  store.letGo()
  await until(() => ended.includes(slow.topic), 'the share has ended')
  const later = store.of(other.topic).length
  await until(() => store.of(other.topic).length > later + 1, 'leases were renewed again')
  assert.equal(store.of(slow.topic).length, writes)
  store.letGo()
})

test('no number of a change is used twice: a Redis that lost changes has none of the same number', async t => {
  const store = new SlowStore('')
  let share = new Share('channel:room' as Topic, RULE)
  let isEnded = false
  const ended = () => {
    isEnded = true
  }
  const events = { seen: () => {}, ended, failed: () => {} }
  const writer = new ShareWriter(store as unknown as PresenceStore, { owner: 'n.1', lease: LEASE }, events)
  t.after(() => writer.close())
  for (const user of ['ann', 'bob']) {
    isEnded = false
    share.enter({ id: 'c1', user, info: '' }, Date.now())
    writer.changed(share)
    await until(() => share.base !== '0', 'the user is there')
    share.leave({ id: 'c1', user, info: '' }, performance.now())
    writer.changed(share)
    await until(() => isEnded, 'nobody is there')
    share = new Share('channel:room' as Topic, RULE)
  }
  const numbers = store.writes.map(({ next }) => Number(next))
  assert.equal(new Set(numbers).size, numbers.length)
  assert.ok(numbers.every(number => number > 0 && number % 2 === 0))
})

test('a shard that does not answer holds up no topic of another one', async t => {
  const store = new SlowStore('channel:slow')
  store.shardOf = topic => topic
  const events = { seen: () => {}, ended: () => {}, failed: () => {} }
  const writer = new ShareWriter(store as unknown as PresenceStore, { owner: 'n.1', lease: LEASE }, events)
  t.after(() => writer.close())
  const shares = ['channel:slow', 'channel:other'].map(topic => new Share(topic as Topic, RULE))
  for (const share of shares) {
    share.enter({ id: 'c1', user: 'ann', info: '' }, Date.now())
    writer.changed(share)
  }
  await until(() => shares[1]!.base !== '0', 'the other topic is written')
  await until(() => store.of('channel:other').length > 2, 'and its lease renewed')
  assert.equal(shares[0]!.base, '0')
  store.slow = ''
  store.letGo()
})

test('a share never hears that a list went back: only so the broker learns that it lost something', () => {
  const share = new Share('channel:room' as Topic, RULE)
  for (const version of [12, 11]) share.hear({ epoch: 'e', version })
  assert.deepEqual(share.heard, { epoch: 'e', version: 12 })
  share.hear({ epoch: 'f', version: 1 })
  assert.deepEqual(share.heard, { epoch: 'f', version: 1 })
})

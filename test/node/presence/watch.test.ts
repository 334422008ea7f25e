import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MembersPage } from '../../../src/broker/presence.ts'
import { Watch } from '../../../src/node/presence/watch.ts'
import type { Member } from '../../../src/protocol/presence.ts'
import type { PresenceDelta } from '../../../src/protocol/presence-delta.ts'
import type { Topic } from '../../../src/protocol/topic.ts'

const RULE = { info: false, grace: 0, members: 500 }

const member = (user: string): Member => ({ user, connections: 1, since: 1000 })

function page(version: number, users: readonly string[]): MembersPage {
  const place = { epoch: 'e', version, mark: `a${version}` }
  return { ...place, count: users.length, anonymous: 0, members: users.map(member), cursor: '0' }
}

/** A change as the master `name` numbers it. */
function change(name: string, version: number, change: Partial<PresenceDelta>, after = `${name}${version - 1}`) {
  return { epoch: 'e', version, mark: `${name}${version}`, after, anonymous: 0, count: 0, ...change }
}

const joined = (user: string, count: number) => ({ joined: [member(user)], count })

/** A list that is read from these answers, one after the other; an error is thrown. */
function watchOf(answers: (MembersPage | Error)[]): Watch {
  return new Watch('channel:room' as Topic, RULE, async () => {
    const answer = answers.shift()
    if (answer === undefined || answer instanceof Error) throw answer ?? new Error('read once too often')
    return answer
  })
}

const usersOf = (watch: Watch) => watch.list().flatMap(({ members = [] }) => members.map(({ user }) => user))

test('a change that follows another one than the last is not taken in', async () => {
  const watch = watchOf([page(3, ['ann']), page(6, ['ann', 'carl', 'dora', 'emil'])])
  await watch.load()
  // A master that was frozen and replaced wakes up, and still publishes what had been sent to it.
  assert.ok(watch.take(change('a', 4, joined('bob', 2))))
  // What the new master made of version 4 and 5 was heard as well: another change with a number that was seen.
  assert.equal(watch.take(change('b', 4, joined('carl', 2), 'a3')), false, 'it leads elsewhere')
  assert.equal(watch.take(change('b', 5, joined('dora', 3))), false, 'it does not follow what this list has')
  assert.deepEqual(await watch.load(), [
    {
      topic: 'channel:room',
      count: 4,
      anonymous: 0,
      joined: ['carl', 'dora', 'emil'].map(member),
      left: ['bob'],
    },
  ])
})

test('a change that the list has already is no reason to read it again', async () => {
  const watch = watchOf([page(3, ['ann', 'bob'])])
  await watch.load()
  assert.equal(watch.take(change('a', 2, joined('ann', 1))), undefined)
  assert.equal(watch.take(change('a', 3, joined('bob', 2))), undefined)
  assert.ok(watch.take(change('a', 4, joined('carl', 3))))
  assert.equal(watch.take(change('a', 4, joined('carl', 3))), undefined)
  assert.deepEqual(usersOf(watch), ['ann', 'bob', 'carl'])
})

test('after an attempt to read the list that failed half way, clients are told all that has changed', async () => {
  const watch = watchOf([
    page(1, ['ann']),
    page(5, ['ann', 'bob']),
    new Error('Redis is away'),
    page(7, ['ann', 'bob']),
  ])
  await watch.load()
  const failing = watch.load()
  // Something is missing between this change and what was read: it is read again, and then Redis is away.
  watch.take(change('a', 9, joined('carl', 3)))
  await assert.rejects(failing, /away/)
  const [told] = await watch.load()
  assert.deepEqual([told?.joined, told?.count], [[member('bob')], 2])
})

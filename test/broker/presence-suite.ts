import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Broker } from '../../src/broker/broker.ts'
import type { OwnMember, PresencePlace, PresenceReply } from '../../src/broker/presence.ts'
import type { PresenceDelta } from '../../src/protocol/presence-delta.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { within } from '../helpers/waiting.ts'
import { FakeSubscriber, type MakeNodes } from './suite.ts'

const LEASE = 60_000

const own = (connections: number, info = '', since = 1000): OwnMember => ({ connections, since, info, ids: [] })

/** Writes as an owner does: one change after the other, each with the base that the one before gave. */
class Writer {
  readonly #broker: Broker
  readonly #topic: Topic
  readonly owner: string
  base = '0'
  #changes = 0
  heard: PresencePlace = { epoch: '', version: 0 }

  constructor(broker: Broker, topic: Topic, owner: string) {
    this.#broker = broker
    this.#topic = topic
    this.owner = owner
  }

  async write(users: Record<string, OwnMember>, anonymous = 0, lease = LEASE): Promise<PresenceReply> {
    this.#changes += 2
    const next = String(this.#changes)
    const change = { topic: this.#topic, owner: this.owner, base: this.base, next, heard: this.heard, lease, anonymous }
    const [reply] = await within(
      this.#broker.presence.write([{ ...change, users: new Map(Object.entries(users)) }]),
      'the answer to a change',
    )
    if (reply instanceof Error) throw reply
    if (reply!.isWritten) this.base = reply!.base
    this.heard = reply!
    return reply!
  }
}

async function listOf(broker: Broker, topic: Topic): Promise<string[]> {
  const seen = new Map<string, number>()
  for (let cursor = '0'; ; ) {
    const page = await within(broker.presence.members(topic, cursor, 3), 'a page of members')
    for (const { user, connections } of page.members) seen.set(user, connections)
    cursor = page.cursor
    if (cursor === '0') return [...seen].map(([user, connections]) => `${user}:${connections}`).toSorted()
  }
}

/** What every broker promises about who is on a topic. */
export function presenceSuite(name: string, makeNodes: MakeNodes): void {
  const check = (title: string, run: (nodes: Broker[], topic: Topic) => Promise<void>) =>
    test(`${name}: ${title}`, { timeout: 120_000 }, async t => {
      const { nodes } = await makeNodes(t, { publishTimeout: 10_000 })
      await run(nodes, 'channel:room')
    })

  check('presence: what owners have is added up, user by user', async (nodes, topic) => {
    const a = new Writer(nodes[0]!, topic, 'a.1')
    const b = new Writer(nodes.at(-1)!, topic, 'b.1')
    await a.write({ ann: own(2, '{"name":"Ann"}', 500), bob: own(1) })
    await b.write({ ann: own(1, '{"name":"Ann A."}', 700) }, 3)
    const page = await nodes[0]!.presence.members(topic, '0', 100)
    assert.deepEqual([page.count, page.anonymous], [2, 3])
    assert.deepEqual(
      page.members.toSorted((x, y) => (x.user < y.user ? -1 : 1)),
      [
        { user: 'ann', connections: 3, since: 500, info: { name: 'Ann A.' } },
        { user: 'bob', connections: 1, since: 1000 },
      ],
    )
    const detail = await nodes[0]!.presence.member(topic, 'ann')
    assert.equal(detail.member?.connections, 3)
    assert.deepEqual(detail.owners.map(({ owner, connections }) => `${owner} ${connections}`).toSorted(), [
      'a.1 2',
      'b.1 1',
    ])
    await a.write({ ann: own(0), bob: own(0) })
    assert.deepEqual(await listOf(nodes[0]!, topic), ['ann:1'])
    await b.write({ ann: own(0) }, 0)
    const empty = await nodes[0]!.presence.members(topic, '0', 100)
    assert.deepEqual([empty.count, empty.anonymous, empty.members], [0, 0, []])
  })

  check('presence: changes come in an order that leads from a list to the truth', async (nodes, topic) => {
    const subscriber = new FakeSubscriber(nodes.at(-1)!)
    await within(subscriber.join(topic), 'the subscription')
    const a = new Writer(nodes[0]!, topic, 'a.1')
    await a.write({ ann: own(1) })
    await a.write({ ann: own(1) })
    await a.write({ ann: own(2), bob: own(1) })
    await a.write({ ann: own(0) }, 1)
    const deltas: PresenceDelta[] = []
    while (deltas.length < 3) deltas.push(JSON.parse(await subscriber.text()))
    const [first, second, third] = deltas
    assert.deepEqual(
      deltas.map(({ version }) => version),
      [1, 2, 3],
      'what changes nothing is not told',
    )
    assert.equal(new Set(deltas.map(({ epoch }) => epoch)).size, 1)
    assert.deepEqual(
      deltas.map(({ after }) => after),
      ['', first!.mark, second!.mark],
      'each says which one it follows',
    )
    const page = await within(nodes[0]!.presence.members(topic, '0', 10), 'the list')
    assert.deepEqual([page.version, page.mark], [3, third!.mark])
    assert.deepEqual(first!.joined, [{ user: 'ann', connections: 1, since: 1000 }])
    assert.deepEqual(second!.updated, [{ user: 'ann', connections: 2, since: 1000 }])
    assert.deepEqual(
      second!.joined?.map(({ user }) => user),
      ['bob'],
    )
    assert.deepEqual([third!.left, third!.count, third!.anonymous], [['ann'], 1, 1])
  })

  check('presence: an owner whose last change is not known is told so, and nothing changes', async (nodes, topic) => {
    const a = new Writer(nodes[0]!, topic, 'a.1')
    await a.write({ ann: own(1) })
    const { base } = a
    a.base = '7'
    const refused = await a.write({ bob: own(1) })
    assert.deepEqual([refused.isWritten, refused.base], [false, base])
    assert.deepEqual(await listOf(nodes[0]!, topic), ['ann:1'])
    assert.deepEqual(await nodes[0]!.presence.owned(topic, 'a.1'), new Map([['ann', 1]]))
    a.base = refused.base
    await a.write({ bob: own(1) })
    assert.deepEqual(await listOf(nodes[0]!, topic), ['ann:1', 'bob:1'])
  })

  check('presence: whatever owners do, the list is the sum of what they have', async nodes => {
    const users = ['u1', 'u2', 'u3', 'ü4', 'u"5']
    const step = fc.record({
      owner: fc.nat(2),
      users: fc.dictionary(fc.constantFrom(...users), fc.nat(3), { maxKeys: 3 }),
      anonymous: fc.nat(2),
    })
    let runs = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async steps => {
        const topic: Topic = `channel:p${++runs}`
        const writers = [0, 1, 2].map(n => new Writer(nodes[n % nodes.length]!, topic, `o${n}.1`))
        const model = writers.map(() => ({ users: new Map<string, number>(), anonymous: 0 }))
        for (const { owner, users: changed, anonymous } of steps) {
          const given = Object.entries(changed).map(([user, connections]) => [user, own(connections)])
          await writers[owner]!.write(Object.fromEntries(given), anonymous)
          model[owner]!.anonymous = anonymous
          for (const [user, connections] of Object.entries(changed)) model[owner]!.users.set(user, connections)
        }
        const sums = users.map(user => [user, model.reduce((sum, it) => sum + (it.users.get(user) ?? 0), 0)] as const)
        const expected = sums.filter(([, sum]) => sum > 0).map(([user, sum]) => `${user}:${sum}`)
        assert.deepEqual(await listOf(nodes[0]!, topic), expected.toSorted())
        const { anonymous } = await nodes[0]!.presence.members(topic, '0', 1)
        assert.equal(
          anonymous,
          model.reduce((sum, it) => sum + it.anonymous, 0),
        )
      }),
      { numRuns: 25 },
    )
  })
}

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SLOTS, slotOf } from '../../../src/broker/redis/topology.ts'
import type { Gap, TopicState } from '../../../src/protocol/messages.ts'
import type { TestMessage } from '../../../src/testing.ts'
import { buildPush, openConnection } from '../../helpers/app.ts'
import { startCluster } from '../../helpers/redis-cluster.ts'
import { until, within } from '../../helpers/waiting.ts'

const SLOW = { timeout: 240_000 }
const MASTERS = 3
const HISTORY = { size: 100, ttl: 600 }

/** The number of the master that has the topic: each has an equal share of the slots. */
const placeOf = (topic: string) => Math.floor((slotOf(`push:${topic}`) * MASTERS) / SLOTS)

/** `all` is with the one that is well. */
const WELL = placeOf('all')
const AWAY = (WELL + 1) % MASTERS

/** A name of which the topic is at this master. */
function nameAt(master: number, kind: 'channel' | 'user', first = 0): string {
  for (let n = first; ; n++) if (placeOf(`${kind}:x${n}`) === master) return `x${n}`
}

/** A node on a Cluster of which nobody takes a master for dead that is only frozen. */
async function setUp(t: TestContext, sharded: boolean) {
  const args = ['--cluster-node-timeout', '120000', '--cluster-require-full-coverage', 'no']
  const cluster = await startCluster(t, { masters: MASTERS, args })
  const history = { 'channel:*': HISTORY, 'user:*': HISTORY, all: HISTORY }
  const { app } = await buildPush(t, { redis: { cluster: cluster.urls, sharded }, history, publishTimeout: 5000 })
  await until(async () => (await app.push.status()).connected, 'the node is connected')
  const master = cluster.masters[AWAY]!
  t.after(() => master.thaw())
  return { app, master }
}

type Connection = Awaited<ReturnType<typeof openConnection>>

/** What the connection was sent besides its welcome, until the answer to a ping. */
async function toldTo(connection: Connection): Promise<TestMessage[]> {
  connection.send('ping', {})
  const told: TestMessage[] = []
  for (let message = await connection.next(); message.type !== 'pong'; message = await connection.next())
    told.push(message)
  return told
}

/** The topics of the welcome, those that are away and those that are not. */
function partsOf({ welcome }: Connection): [away: [string, TopicState][], well: [string, TopicState][]] {
  const topics = Object.entries(welcome.topics)
  return [topics.filter(([topic]) => placeOf(topic) === AWAY), topics.filter(([topic]) => placeOf(topic) !== AWAY)]
}

const isRecorded = ([topic]: [string, unknown]) => !topic.startsWith('connection:')

/** The welcome has the positions of all topics that are well, and a gap follows of the others and no more. */
function assertHalf(connection: Connection, told: readonly TestMessage[]): void {
  const [away, well] = partsOf(connection)
  for (const [topic, state] of well.filter(isRecorded)) assert.equal(typeof state.id, 'string', topic)
  for (const [topic, state] of away) assert.deepEqual(state, {}, topic)
  const gaps = told.filter(({ type }) => type === 'gap').map(({ payload }) => payload as Gap)
  assert.deepEqual(
    gaps.map(({ topics, reason }) => [topics.toSorted(), reason]),
    away.length > 0 ? [[away.map(([topic]) => topic).toSorted(), 'broker_away']] : [],
  )
}

for (const sharded of [false, true]) {
  test(`cluster, sharded ${sharded}: while a master is frozen, topics of the others are confirmed`, SLOW, async t => {
    const { app, master } = await setUp(t, sharded)
    const [user, otherUser] = [nameAt(WELL, 'user'), nameAt(AWAY, 'user')]
    const [channel, otherChannel] = [nameAt(WELL, 'channel'), nameAt(AWAY, 'channel')]
    master.freeze()
    const [first, second] = await Promise.all([
      openConnection(app, `/ws/${channel}?user=${user}`),
      openConnection(app, `/ws/${otherChannel}?user=${otherUser}`),
    ])
    assertHalf(first, await toldTo(first))
    const told = await toldTo(second)
    assertHalf(second, told)
    assert.ok(told.length === 1, 'a gap of its user and its channel')

    // Both at once: one is told that it is subscribed while the other waits.
    const [mine, others] = [nameAt(WELL, 'channel', 100), nameAt(AWAY, 'channel', 100)]
    second.send('subscribe', { topic: `channel:${others}` }, 1)
    first.send('subscribe', { topic: `channel:${mine}` }, 1)
    const subscribed = await first.next('subscribed')
    assert.equal(typeof (subscribed.payload as TopicState).id, 'string')
    assert.deepEqual(await toldTo(first), [])
    const late = await second.next('subscribed')
    assert.deepEqual(late.payload, { topic: `channel:${others}` })
    assert.deepEqual((await second.next('gap')).payload, { topics: [`channel:${others}`], reason: 'broker_away' })
    await app.push.publish(`channel:${mine}`, { type: 'live' })
    assert.equal((await first.next('live')).seq, 1)

    master.thaw()
    const missing = new Set([`user:${otherUser}`, `channel:${otherChannel}`, `channel:${others}`])
    while (missing.size > 0) {
      const { topics, positions } = (await second.next('gap')).payload as Gap
      for (const topic of topics) if (positions?.[topic]) missing.delete(topic)
    }
    await until(async () => (await app.push.status()).connected, 'the node is connected again')
    await app.push.publish(`channel:${others}`, { type: 'live' })
    assert.equal((await second.next('live')).topic, `channel:${others}`)
  })
}

test(
  'cluster: who comes back while a master is frozen recovers topics of the others, and that one later',
  SLOW,
  async t => {
    const { app, master } = await setUp(t, false)
    const [user, channel] = [nameAt(WELL, 'user'), nameAt(AWAY, 'channel')]
    const topics = [`user:${user}`, `channel:${channel}`] as const
    const since: Record<string, string> = {}
    for (const topic of topics) since[topic] = (await app.push.publish(topic, { type: 'first' })).id!
    for (const topic of topics) await app.push.publish(topic, { type: 'second' })
    master.freeze()
    const query = `user=${user}&since=${encodeURIComponent(JSON.stringify(since))}`
    const connection = await openConnection(app, `/ws/${channel}?${query}`)
    const { [topics[0]]: known, [topics[1]]: unknown } = connection.welcome.topics
    assert.equal(known!.recovered, true)
    assert.deepEqual(unknown, {})
    const { topics: late } = (await connection.next('gap')).payload as Gap
    assert.ok(late.includes(topics[1]) && !late.includes(topics[0]))
    assert.equal((await connection.next('second')).topic, topics[0])
    master.thaw()
    const missed = await within(connection.next('second'), 'what was missed on the other topic')
    assert.deepEqual([missed.topic, missed.seq], [topics[1], 2])
  },
)

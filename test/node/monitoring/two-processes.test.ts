import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPublisher, type ScriptPublisher } from '../../../src/publisher.ts'
import { type NodeProcess, startNode } from '../../helpers/nodes.ts'
import { cleanups } from '../../helpers/processes.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/waiting.ts'

const all = cleanups()
let a: NodeProcess
let b: NodeProcess
let publisher: ScriptPublisher

before(async () => {
  const redis = await startRedis(all)
  // Patient, so that every step is there however long the other process takes.
  const start = () => startNode(all, redis.url, { PUBLISH_TIMEOUT: '30000' })
  a = await start()
  // Only then: two processes that start together may begin in the same millisecond.
  b = await start()
  publisher = createPublisher({ redis: redis.url, publishTimeout: 30_000 })
  all.after(() => publisher.end())
})

after(() => all.end())

/** Asks until both processes have answered: a busy machine may need more than the second that they have. */
async function whole<T extends { complete: boolean }>(ask: () => Promise<T>): Promise<T> {
  let answer = await ask()
  await until(async () => {
    if (!answer.complete) answer = await ask()
    return answer.complete
  }, 'both nodes answer')
  return answer
}

test('two processes: each has its own name, memory and clock', async () => {
  const { nodes, expected } = await whole(() => publisher.nodes())
  assert.deepEqual([nodes.length, expected], [2, 2])
  const names = await Promise.all([a, b].map(async it => (await it.status()).node))
  assert.deepEqual(
    nodes.map(({ node }) => node),
    names.toSorted(),
  )
  assert.notEqual(nodes[0]!.startedAt, nodes[1]!.startedAt)
})

test('two processes: explain says which of them has which connection, and what each did with a publication', async () => {
  const clients = [
    await a.connect('/ws/why?user=1'),
    await b.connect('/ws/why?user=2'),
    await b.connect('/ws/why?user=3'),
  ]
  const { body } = await a.push({ to: 'channel:why', type: 'note', except: 'user:3', receipt: true })
  assert.equal((body as { delivered: number }).delivered, 2)
  const { nodes, findings } = await whole(() => publisher.explain('channel:why'))
  const said = new Map(
    nodes.map(({ node, members, publications }) => [
      node,
      { ids: members.map(({ id }) => id), last: publications[0]! },
    ]),
  )
  const [one, two, three] = clients.map(({ welcome }) => welcome)
  const first = said.get(one!.node)!
  const second = said.get(two!.node)!
  assert.equal(said.size, 2)
  assert.deepEqual(first.ids, [one!.connection])
  assert.deepEqual(second.ids.toSorted(), [two!.connection, three!.connection].toSorted())
  assert.deepEqual([first.last.delivered, first.last.skipped], [1, {}])
  assert.deepEqual([second.last.delivered, second.last.skipped], [1, { except: 1 }])
  assert.match(findings.join('\n'), /was queued for 2 connections; skipped: 1 that the publisher excepted\.$/m)
})

test('two processes: trace has the way through both, from the one that was asked to publish', async () => {
  const [one, two] = [await a.connect('/ws/way'), await b.connect('/ws/way')]
  const { body } = await b.push({ to: 'channel:way', type: 'note', trace: true })
  const { trace } = body as { trace: { node: string; what: string; at: number }[] }
  const stepsOf = (node: string) => trace.filter(it => it.node === node).map(({ what }) => what)
  assert.deepEqual(stepsOf(one.welcome.node), ['received', 'queued', 'written'])
  assert.deepEqual(stepsOf(two.welcome.node).toSorted(), ['published', 'queued', 'received', 'taken', 'written'])
  assert.equal(trace.length, 8)
})

test('two processes: one that is frozen is missed by number, and answers again afterwards', async () => {
  const { welcome } = await a.connect('/ws/ice')
  await b.connect('/ws/ice')
  await whole(() => publisher.explain('channel:ice'))
  b.process.kill('SIGSTOP')
  try {
    let asked = await publisher.explain('channel:ice')
    // The other one, too, may need more than the second that it has.
    await until(async () => {
      if (asked.nodes.length === 0) asked = await publisher.explain('channel:ice')
      return asked.nodes.length > 0
    }, 'the answer of the other node')
    const { nodes, expected, complete, findings } = asked
    assert.deepEqual([expected, complete], [2, false])
    assert.deepEqual(
      nodes.map(({ node }) => node),
      [welcome.node],
    )
    assert.match(findings[0]!, /^1 of 2 nodes did not answer in time: frozen, overloaded, or just gone\./)
  } finally {
    b.process.kill('SIGCONT')
  }
  assert.equal((await whole(() => publisher.explain('channel:ice'))).nodes.length, 2)
})

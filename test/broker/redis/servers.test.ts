import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { connect, connected } from '../../helpers/redis-node.ts'
import { within } from '../../helpers/waiting.ts'
import { brokerSuite, publishOne } from '../suite.ts'

/** Without HELLO a client cannot ask for RESP3, and says everything in RESP2. */
const startOldSpeaker = (t: TestContext) => startRedis(t, { args: ['--rename-command', 'HELLO', ''] })

brokerSuite('redis in RESP2', async (t, { publishTimeout }) => {
  const server = await startOldSpeaker(t)
  const nodes = ['n1', 'n2'].map(node => connect(t, server, { node, publishTimeout }).broker)
  await within(Promise.all(nodes.map(node => node.whenLive)), 'the nodes are live')
  const { admin } = server
  return {
    nodes,
    async passTime(seconds) {
      for (const key of [...(await admin.keys('push:ticket:*')), ...(await admin.keys('push:revoked:*'))])
        await admin.pexpire(key, (await admin.pttl(key)) - seconds * 1000)
    },
    async notes(count) {
      // The answer to a command of the same connection comes after the notes that were written before it.
      await nodes[0]!.takeTicket('none')
      const notes = await admin.lrange('push:rejected', 0, -1)
      assert.equal(notes.length, count)
      return notes.map(note => JSON.parse(note))
    },
  }
})

/** Names of the connections of the broker, with the version of the protocol that each speaks. */
async function spoken({ admin }: RedisServer): Promise<string[]> {
  const clients = String(await admin.call('CLIENT', 'LIST')).trim()
  const speakers = [...clients.matchAll(/ name=(commands|subscriber) .* resp=(\d)/g)]
  return speakers.map(([, name, version]) => `${name} ${version}`).toSorted()
}

for (const [version, start] of Object.entries({ 2: startOldSpeaker, 3: startRedis })) {
  test(`redis: what was missed is filled over RESP${version}`, async t => {
    const server = await start(t)
    const { broker, subscriber, link } = await connected(t, server)
    assert.deepEqual(await spoken(server), [`commands ${version}`, `subscriber ${version}`])
    await subscriber.join('channel:recorded')
    const record = async (text: string) => {
      const history = { size: 10, ttl: 60 }
      const [sent] = await broker.publish([{ topic: 'channel:recorded', envelope: text, history }])
      assert.ok(sent && !(sent instanceof Error), `recorded: ${sent}`)
    }
    await record('{"type":"n","payload":1}')
    assert.equal(await subscriber.text(), '{"type":"n","payload":1}')
    // One after the other in one transaction: the node cannot be back before the second.
    const missed = ['push_publish', 1, 'push:channel:recorded', '{"type":"n","payload":2}', 10, 60] as const
    await server.admin
      .multi()
      .call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      .call('FCALL', ...missed)
      .exec()
    assert.equal(await subscriber.text(), '{"type":"n","payload":2}')
    await link(true)
    await publishOne(broker, 'channel:x', '{"type":"n"}')
    assert.equal(await subscriber.text(), '{"type":"n"}')
  })
}

import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import type { Sharded } from '../../../src/broker/redis/pub-sub.ts'
import { SLOTS, slotOf } from '../../../src/broker/redis/topology.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisCluster, startCluster } from '../../helpers/redis-cluster.ts'
import { connectToCluster } from '../../helpers/redis-node.ts'
import { until, within } from '../../helpers/waiting.ts'
import { presenceSuite } from '../presence-suite.ts'
import { brokerSuite, type MakeNodes } from '../suite.ts'

const all = cleanups()
let cluster: RedisCluster

before(async () => {
  cluster = await startCluster(all)
})

after(() => all.end())

let prefixes = 0

/** The number of the master that a channel is at: each has an equal share of the slots. */
const placeOf = (channel: string) => Math.floor((slotOf(channel) * cluster.masters.length) / SLOTS)

const makeNodes =
  (sharded: Sharded): MakeNodes =>
  async (t, { publishTimeout }) => {
    const prefix = `c${++prefixes}:`
    const nodes = ['n1', 'n2'].map(
      node => connectToCluster(t, cluster, { node, prefix, publishTimeout, sharded }).broker,
    )
    await within(Promise.all(nodes.map(node => node.whenLive)), 'the nodes are live')
    const admins = cluster.masters.map(({ admin }) => admin)
    return {
      nodes,
      async passTime(seconds) {
        for (const admin of admins) {
          for (const key of [...(await admin.keys(`${prefix}ticket:*`)), ...(await admin.keys(`${prefix}revoked:*`))])
            await admin.pexpire(key, (await admin.pttl(key)) - seconds * 1000)
        }
      },
      async notes(count) {
        // The answer to a command of the same connection comes after the notes that were written before it.
        const key = `${prefix}rejected`
        await nodes[0]!.takeTicket('none')
        const { admin } = await cluster.masterOf(key)
        await until(async () => (await admin.llen(key)) >= count, `${count} notes`)
        const notes = await admin.lrange(key, 0, -1)
        assert.equal(notes.length, count)
        return notes.map(note => JSON.parse(note))
      },
      barriers(name) {
        const topics = Array.from({ length: 100 }, (_, n): Topic => `channel:${name}-${n}`)
        return cluster.masters.map((_, i) => topics.find(topic => placeOf(prefix + topic) === i)!)
      },
      async held() {
        const questions = [...(sharded === true ? [] : ['CHANNELS']), ...(sharded ? ['SHARDCHANNELS'] : [])]
        const lists = await Promise.all(
          questions.flatMap(question =>
            admins.map(admin => admin.call('PUBSUB', question, `${prefix}*`) as Promise<string[]>),
          ),
        )
        return [...new Set(lists.flat())]
          .filter(channel => channel !== `${prefix}nodes` && !channel.startsWith(`${prefix}node:`))
          .map(channel => channel.slice(prefix.length))
          .toSorted()
      },
    }
  }

brokerSuite('cluster', makeNodes(false))
presenceSuite('cluster', makeNodes(false))
presenceSuite('cluster, sharded', makeNodes(true))
brokerSuite('cluster, sharded', makeNodes(true))
brokerSuite('cluster, both heard', makeNodes('publish'))

import assert from 'node:assert/strict'
import type { Redis } from 'ioredis'
import type { RedisSource } from '../../src/broker/redis/client.ts'
import { SLOTS, slotOf } from '../../src/broker/redis/topology.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import type { MakeNodes } from '../broker/suite.ts'
import { connectTo } from './redis-node.ts'
import { until, within } from './waiting.ts'

/** Servers that the broker suite runs on, and how a test looks into them. */
export interface Servers {
  source: RedisSource
  /** Of every master; several have an equal share of the slots each, in their order. */
  admins: readonly Redis[]
}

let prefixes = 0

/** Two nodes for each test, all on the same servers: each test has a prefix of its own, which begins with `push:`. */
export const nodesOn =
  (servers: () => Servers | Promise<Servers>): MakeNodes =>
  async (t, { publishTimeout }) => {
    const { source, admins } = await servers()
    const prefix = `push:s${++prefixes}:`
    const nodes = ['n1', 'n2'].map(node => connectTo(t, source, { node, prefix, publishTimeout }).broker)
    await within(Promise.all(nodes.map(node => node.whenLive)), 'the nodes are live')
    const placeOf = (channel: string) => Math.floor((slotOf(channel) * admins.length) / SLOTS)
    const at = (key: string) => admins[placeOf(key)]!
    return {
      nodes,
      async passTime(seconds) {
        for (const admin of admins)
          for (const key of [...(await admin.keys(`${prefix}ticket:*`)), ...(await admin.keys(`${prefix}revoked:*`))])
            await admin.pexpire(key, (await admin.pttl(key)) - seconds * 1000)
      },
      async notes(count) {
        const key = `${prefix}rejected`
        await until(async () => (await at(key).llen(key)) >= count, `${count} notes`)
        const notes = await at(key).lrange(key, 0, -1)
        assert.equal(notes.length, count)
        return notes.map(note => JSON.parse(note))
      },
      ...(admins.length > 1 && {
        barriers(name: string) {
          const topics = Array.from({ length: 100 }, (_, n): Topic => `channel:${name}-${n}`)
          return admins.map((_, i) => topics.find(topic => placeOf(prefix + topic) === i)!)
        },
      }),
      async held() {
        const lists = await Promise.all(
          admins.map(admin => admin.pubsub('CHANNELS', `${prefix}*`) as Promise<string[]>),
        )
        return [...new Set(lists.flat())]
          .filter(channel => channel !== `${prefix}nodes` && !channel.startsWith(`${prefix}node:`))
          .map(channel => channel.slice(prefix.length))
          .toSorted()
      },
    }
  }

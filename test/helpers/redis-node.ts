import type { TestContext } from 'node:test'
import { RedisBroker, type ShardMaker } from '../../src/broker/redis/broker.ts'
import { createClient, type RedisSource, type SingleSource, targetOf } from '../../src/broker/redis/client.ts'
import type { Address } from '../../src/broker/redis/link.ts'
import { ClusterMasters, type Masters, OneMaster } from '../../src/broker/redis/masters.ts'
import { PubSub, type Sharded } from '../../src/broker/redis/pub-sub.ts'
import type { RefusedTopic } from '../../src/broker/redis/refused-topics.ts'
import { createRegistration } from '../../src/broker/redis/registration.ts'
import type { Shard } from '../../src/broker/redis/shard.ts'
import { FakeSubscriber } from '../broker/suite.ts'
import type { RedisServer } from './redis.ts'
import type { RedisCluster } from './redis-cluster.ts'
import { PATIENCE, within } from './waiting.ts'

interface NodeOptions {
  node?: string
  prefix?: string
  /** Default: longer than anything takes, for tests that are not about it. */
  publishTimeout?: number
  noteRejected?: boolean
  /** Where the link that subscribes goes, if elsewhere. */
  subscriberUrl?: string
  sharded?: Sharded
}

/** A broker of the server, and its log of the link: `changed` resolves at the next change to up or down. */
export function connect(t: TestContext, server: RedisServer, options: NodeOptions = {}) {
  const clients = {
    commands: createClient(server.url, 'commands'),
    subscriber: createClient(options.subscriberUrl ?? server.url, 'subscriber'),
  }
  return { clients, ...brokerOver(t, ({ shard }) => new OneMaster(shard(clients, false)), options) }
}

/** The same for a Cluster. */
export function connectToCluster(t: TestContext, { urls }: RedisCluster, options: NodeOptions = {}) {
  const target = targetOf({ cluster: urls, ...(options.sharded && { sharded: options.sharded }) })
  if (!target.isCluster) throw new Error('no Cluster')
  const { seeds, at } = target
  const clientsTo = (address: Address) => ({
    commands: createClient(at(address), 'commands'),
    subscriber: createClient(at(address), 'subscriber'),
  })
  const open = ({ shard, moved, failed }: ShardMaker) =>
    new ClusterMasters(
      { seeds, connect: address => createClient(at(address), 'cluster') },
      { create: address => shard(clientsTo(address), true), changed: moved, failed },
    )
  return brokerOver(t, open, options)
}

/** The same over whatever a user may give, with the links that it makes. */
export function connectTo(t: TestContext, source: RedisSource, options: NodeOptions = {}) {
  const target = targetOf(source)
  const clientsTo = (one: SingleSource) => ({
    commands: createClient(one, 'commands'),
    subscriber: createClient(one, 'subscriber'),
  })
  const open = ({ shard, moved, failed }: ShardMaker) =>
    !target.isCluster
      ? new OneMaster(shard(clientsTo(target.one), false))
      : new ClusterMasters(
          { seeds: target.seeds, connect: address => createClient(target.at(address), 'cluster') },
          { create: address => shard(clientsTo(target.at(address)), true), changed: moved, failed },
        )
  return brokerOver(t, open, options)
}

function brokerOver(t: TestContext, open: (maker: ShardMaker) => Masters<Shard>, options: NodeOptions) {
  const { node = 'n1', prefix = 'push:', publishTimeout = PATIENCE, noteRejected = true } = options
  const lags: { isBehind: boolean; milliseconds: number }[] = []
  const refusals: RefusedTopic[] = []
  const blind: Error[] = []
  const changes: { isUp: boolean; error: Error | undefined }[] = []
  const waiting: { isUp: boolean; resolve: () => void }[] = []
  const links = new RedisBroker(
    open,
    { node, prefix, maxBytes: 262_144, pubSub: new PubSub(options.sharded ?? false) },
    {
      change(isUp, error) {
        changes.push({ isUp, error })
        for (const { resolve } of waiting.filter(w => w.isUp === isUp)) resolve()
      },
      lagging: (isBehind, milliseconds) => void lags.push({ isBehind, milliseconds }),
      refused: refusal => void refusals.push(refusal),
      blind: error => void blind.push(error),
    },
  )
  const broker = createRegistration(links, { publishTimeout, noteRejected, maxBytes: 262_144 }, () => links.masters)
  t.after(() => within(broker.close(), 'the end of a broker'))
  return {
    broker,
    changes,
    lags,
    refusals,
    blind,
    /** Resolves when the link has the state: at once if it has it already. */
    link(isUp: boolean): Promise<void> {
      if (broker.connected === isUp) return Promise.resolve()
      const changed = new Promise<void>(resolve => waiting.push({ isUp, resolve }))
      return within(changed, () => `the link is ${isUp ? 'up' : 'down'}; its changes: ${JSON.stringify(changes)}`)
    },
  }
}

/** The same, connected, with a subscriber that holds channel:x. */
export async function connected(t: TestContext, server: RedisServer, options: NodeOptions = {}) {
  const made = connect(t, server, options)
  await within(made.broker.whenLive, 'the broker is live')
  const subscriber = new FakeSubscriber(made.broker)
  await subscriber.join('channel:x')
  subscriber.clear()
  return { ...made, subscriber }
}

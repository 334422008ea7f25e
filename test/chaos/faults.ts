import { setTimeout as sleep } from 'node:timers/promises'
import { CLUSTER_FAULTS } from './cluster-faults.ts'
import { cutFor, delayFor, holdFor, throttleFor } from './link-faults.ts'
import type { FaultProxy } from './proxy.ts'
import { QUEUE_FAULTS } from './queue-faults.ts'
import { Random } from './random.ts'
import { rollBack } from './rollback.ts'
import type { Fault, FaultKind } from './schedule.ts'
import type { SentinelStore } from './sentinel.ts'
import type { Target } from './store.ts'
import { CHANNELS, SMALL } from './topics.ts'
import type { NodeSlot, World } from './world.ts'

/** What one fault is given: the world, its own dice, how long it lasts, and where it notes what it hit. */
export interface Scene {
  world: World
  random: Random
  duration: number
  /** What it did, once it did it: the judge goes by that. False: it could not be done now. */
  begun(details?: object): void
  /** What came of it. */
  learned(details: object): void
}

/** Each lasts until its promise resolves, and then everything is whole again. */
const FAULTS: Record<FaultKind, (scene: Scene) => Promise<void>> = {
  'node-kill': scene =>
    withNode(scene, async slot => {
      await slot.child.kill()
      await sleep(scene.duration)
      await scene.world.startNode(slot)
    }),
  'node-term': scene =>
    withNode(scene, async slot => {
      const isClean = await scene.world.stopNode(slot)
      if (!isClean) scene.world.journal.write({ e: 'unclean-exit', node: slot.index })
      await scene.world.startNode(slot)
    }),
  'node-stop': scene =>
    withNode(scene, async slot => {
      slot.child.signal('SIGSTOP')
      await sleep(scene.duration)
      slot.child.signal('SIGCONT')
    }),
  'redis-stop': scene =>
    withRedis(scene, async ({ server }) => {
      scene.begun()
      server.signal('SIGSTOP')
      await sleep(scene.duration)
      server.signal('SIGCONT')
    }),
  'redis-kill': scene =>
    withRedis(scene, async ({ server }) => {
      scene.begun()
      await server.kill()
      await sleep(scene.duration)
      await server.start()
    }),
  'redis-rollback': scene => withRedis(scene, target => rollBack(scene, target)),
  'link-cut': scene => withLink(scene, cutFor),
  'link-hole': scene => withLink(scene, holdFor),
  'link-delay': scene => withLink(scene, delayFor),
  'link-throttle': scene => withLink(scene, (link, duration) => throttleFor(link, duration, 20_000)),
  'drop-reply': dropReply,
  'client-kill-pubsub': scene => clientKill(scene, 'pubsub'),
  'client-kill-normal': scene => clientKill(scene, 'normal'),
  'pubsub-limit': async ({ world, random, duration, begun }) => {
    const { server, details } = pickMaster(world, random)
    begun(details)
    await ask(server, 'CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 32768 0 0')
    await sleep(duration)
    await ask(server, 'CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 33554432 8388608 60')
  },
  'reader-stall': stallReaders,
  'mass-disconnect': async ({ world, random, begun }) => {
    begun()
    if (random.next() < 0.5) world.clients.tell({ e: 'drop', share: 0.5 })
    else for (const { clientLink } of world.nodes) clientLink.cut(() => random.next() < 0.5)
  },
  'client-link-hole': async ({ world, random, duration, begun }) => {
    begun()
    await holdFor(random.pick(world.nodes).clientLink, duration)
  },
  'client-link-throttle': async ({ world, random, duration, begun }) => {
    begun()
    await throttleFor(random.pick(world.nodes).clientLink, duration, 30_000)
  },
  'history-trim': async ({ world, random, begun }) => {
    const topic = random.pick([...CHANNELS, SMALL, 'all'])
    begun({ topic })
    await ask(ownerOf(world, topic), 'XTRIM', historyOf(topic), 'MAXLEN', random.index(5))
  },
  'history-expire': async ({ world, random, begun }) => {
    const topic = random.pick([...CHANNELS, SMALL, 'all'])
    begun({ topic })
    await ask(ownerOf(world, topic), 'DEL', historyOf(topic))
  },
  failover: async ({ world, duration, begun }) => {
    await (world.store as SentinelStore).failOver(duration, begun)
  },
  'master-kill': async ({ world, duration, begun }) => {
    await (world.store as SentinelStore).killMaster(duration, begun)
  },
  'master-stop': async ({ world, duration, begun }) => {
    await (world.store as SentinelStore).freezeMaster(duration, begun)
  },
  ...CLUSTER_FAULTS,
  ...QUEUE_FAULTS,
}

export const historyOf = (topic: string): string => `{push:${topic}}:history`

type Asked = Pick<Target['server'], 'admin'>

/** A server that is not the master any more, or not yet, refuses: then this does not happen. */
async function ask({ admin }: Asked, command: string, ...args: (string | number)[]): Promise<void> {
  await admin.call(command, ...args).catch(() => {})
}

const ownerOf = ({ store }: World, topic: string): Asked => ({ admin: store.adminOf(topic) })

/** Where there is only one, the dice are not asked: the same seeds stay the same runs. */
function pickMaster({ store: { masters } }: World, random: Random): Target {
  return masters.length === 1 ? masters[0]! : random.pick(masters)
}

let strikes = 0

/** Lets the fault happen; what it hit and for how long is in the log of the controller. */
export async function strike(world: World, fault: Fault): Promise<void> {
  const { kind, duration, aim } = fault
  const number = ++strikes
  let didBegin = false
  const begun = (details: object = {}) => {
    didBegin = true
    world.journal.write({ e: 'fault', number, kind, ...details })
  }
  let outcome = {}
  const learned = (details: object) => {
    outcome = details
  }
  await FAULTS[kind]({ world, duration, random: new Random(Math.floor(aim * 2 ** 32)), begun, learned })
  world.journal.write(didBegin ? { e: 'fault-end', number, kind, ...outcome } : { e: 'fault-skipped', kind })
}

/** One fault has a node at a time. */
async function withNode({ world, random, begun }: Scene, act: (slot: NodeSlot) => Promise<void>): Promise<void> {
  const free = world.nodes.filter(({ isTaken }) => !isTaken)
  // Somebody has to remember where Redis was, or going back in time is not to be seen by anyone.
  if (free.length < 2) return
  const slot = random.pick(free)
  slot.isTaken = true
  begun({ node: slot.index })
  try {
    await act(slot)
  } finally {
    slot.isTaken = false
  }
}

const taken = new WeakSet<object>()

async function withRedis({ world }: Scene, act: (target: Target) => Promise<void>): Promise<void> {
  const [target] = world.store.masters
  if (taken.has(target!.server)) return
  taken.add(target!.server)
  try {
    await act(target!)
  } finally {
    taken.delete(target!.server)
  }
}

async function withLink(
  { world, random, duration, begun }: Scene,
  act: (link: FaultProxy, duration: number) => Promise<void>,
): Promise<void> {
  const links = linksOf(world)
  const index = random.index(links.length)
  begun({ link: index, ...links[index]!.details })
  await act(links[index]!.link, duration)
}

/** Where everybody comes to a server by the same proxy, what happens to that happens to all. */
function linksOf({ nodes, store, publisherLink }: World): { link: FaultProxy; details: object }[] {
  if (store.links.length > 0) return [...store.links]
  return [...nodes.map(({ redisLink }) => redisLink), publisherLink].map(link => ({ link, details: {} }))
}

/** An id in the answer: something was recorded, and whoever asked for it does not hear of it. */
async function dropReply({ world, random, begun }: Scene): Promise<void> {
  const links = linksOf(world)
  // One of the publishers' more often than one of a node.
  const { link, details } = random.pick([links.at(-1)!, links.at(-1)!, ...links.slice(0, -1)])
  const dropping = link.dropReply(reply => /^\*4\r\n\$\d+\r\n[0-9a-z]+\.\d+\.\d+-\d+/.test(reply.toString('latin1')))
  await Promise.race([dropping.dropped.then(() => begun(details)), sleep(2000)])
  dropping.cancel()
}

async function clientKill({ world, random, begun }: Scene, type: 'pubsub' | 'normal'): Promise<void> {
  const { server, details } = pickMaster(world, random)
  begun(details)
  await ask(server, 'CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes')
}

async function stallReaders({ world, random, duration, begun }: Scene): Promise<void> {
  begun()
  world.publishers.tell({ e: 'bulk', isOn: true })
  const resume = world.nodes.map(({ clientLink }) => clientLink.stall(() => random.next() < 0.4))
  await sleep(duration + 1000)
  for (const end of resume) end()
  world.publishers.tell({ e: 'bulk', isOn: false })
}

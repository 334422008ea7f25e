import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultProxy } from './proxy.ts'
import { Random } from './random.ts'
import type { Fault, FaultKind } from './schedule.ts'
import type { SentinelStore } from './sentinel.ts'
import { CHANNELS, SMALL } from './topics.ts'
import type { NodeSlot, World } from './world.ts'

/** What one fault is given: the world, its own dice, how long it lasts, and where it notes what it hit. */
interface Scene {
  world: World
  random: Random
  duration: number
  /** What it did, once it did it: the judge goes by that. False: it could not be done now. */
  begun(details?: object): void
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
    withRedis(scene, async master => {
      scene.begun()
      master.signal('SIGSTOP')
      await sleep(scene.duration)
      master.signal('SIGCONT')
    }),
  'redis-kill': scene =>
    withRedis(scene, async master => {
      scene.begun()
      await master.kill()
      await sleep(scene.duration)
      await master.start()
    }),
  'redis-rollback': scene => withRedis(scene, master => rollBack(scene, master)),
  'link-cut': scene => withLink(scene, cutFor),
  'link-hole': scene => withLink(scene, holdFor),
  'link-delay': scene => withLink(scene, delayFor),
  'link-throttle': scene => withLink(scene, (link, duration) => throttleFor(link, duration, 20_000)),
  'drop-reply': dropReply,
  'client-kill-pubsub': scene => clientKill(scene, 'pubsub'),
  'client-kill-normal': scene => clientKill(scene, 'normal'),
  'pubsub-limit': async ({ world, duration, begun }) => {
    begun()
    await ask(world, 'CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 32768 0 0')
    await sleep(duration)
    await ask(world, 'CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 33554432 8388608 60')
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
    await ask(world, 'XTRIM', historyOf(topic), 'MAXLEN', random.index(5))
  },
  'history-expire': async ({ world, random, begun }) => {
    const topic = random.pick([...CHANNELS, SMALL, 'all'])
    begun({ topic })
    await ask(world, 'DEL', historyOf(topic))
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
}

export const historyOf = (topic: string): string => `{push:${topic}}:history`

/** A server that is not the master any more, or not yet, refuses: then this does not happen. */
async function ask(world: World, command: string, ...args: (string | number)[]): Promise<void> {
  await world.store.master.admin.call(command, ...args).catch(() => {})
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
  await FAULTS[kind]({ world, duration, random: new Random(Math.floor(aim * 2 ** 32)), begun })
  world.journal.write(didBegin ? { e: 'fault-end', number, kind } : { e: 'fault-skipped', kind })
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

async function withRedis({ world }: Scene, act: (master: World['store']['master']) => Promise<void>): Promise<void> {
  const { master } = world.store
  if (taken.has(master)) return
  taken.add(master)
  try {
    await act(master)
  } finally {
    taken.delete(master)
  }
}

async function withLink(
  { world, random, duration, begun }: Scene,
  act: (link: FaultProxy, duration: number) => Promise<void>,
): Promise<void> {
  const links = [...world.nodes.map(({ redisLink }) => redisLink), world.publisherLink]
  const index = random.index(links.length)
  begun({ link: index })
  await act(links[index]!, duration)
}

async function cutFor(link: FaultProxy, duration: number): Promise<void> {
  link.isRefusing = true
  link.cut()
  await sleep(duration / 2)
  link.isRefusing = false
}

async function holdFor(link: FaultProxy, duration: number): Promise<void> {
  link.isHeld = true
  await sleep(duration)
  link.isHeld = false
}

async function delayFor(link: FaultProxy, duration: number): Promise<void> {
  link.delay = 200
  await sleep(duration)
  link.delay = 0
}

async function throttleFor(link: FaultProxy, duration: number, rate: number): Promise<void> {
  link.rate = rate
  await sleep(duration)
  link.rate = undefined
  link.pump()
}

/** An id in the answer: something was recorded, and whoever asked for it does not hear of it. */
async function dropReply({ world, random, begun }: Scene): Promise<void> {
  const links = [world.publisherLink, world.publisherLink, ...world.nodes.map(({ redisLink }) => redisLink)]
  const dropping = random
    .pick(links)
    .dropReply(reply => /^\*4\r\n\$\d+\r\n[0-9a-z]+\.\d+\.\d+-\d+/.test(reply.toString('latin1')))
  await Promise.race([dropping.dropped.then(() => begun()), sleep(2000)])
  dropping.cancel()
}

async function clientKill({ world, begun }: Scene, type: 'pubsub' | 'normal'): Promise<void> {
  begun()
  await ask(world, 'CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes')
}

async function stallReaders({ world, random, duration, begun }: Scene): Promise<void> {
  begun()
  world.publishers.tell({ e: 'bulk', isOn: true })
  const resume = world.nodes.map(({ clientLink }) => clientLink.stall(() => random.next() < 0.4))
  await sleep(duration + 1000)
  for (const end of resume) end()
  world.publishers.tell({ e: 'bulk', isOn: false })
}

const REMEMBERED_TICKS = 2
const PATIENCE = 4000

/** Everything after the snapshot is gone. Nodes that ticked meanwhile can tell; what no node saw is no promise. */
async function rollBack({ duration, begun }: Scene, master: World['store']['master']): Promise<void> {
  const before = await ticksOf(master)
  const since = Date.now()
  const copy = master.snapshot()
  await sleep(Math.min(duration, 1500))
  while (!areRemembered(before, await ticksOf(master))) {
    if (Date.now() - since > PATIENCE) return
    await sleep(100)
  }
  // From the moment of the snapshot on: that is what is lost.
  begun({ since })
  await master.kill()
  master.restore(copy)
  await sleep(duration / 3)
  await master.start()
}

type Ticks = Map<string, number>

async function ticksOf(master: World['store']['master']): Promise<Ticks> {
  const keys = await master.admin.keys('{push:shard-0}:tick:*')
  const values = keys.length > 0 ? await master.admin.mget(keys) : []
  return new Map(keys.map((key, i) => [key, Number(values[i])]))
}

function areRemembered(before: Ticks, after: Ticks): boolean {
  const advanced = [...after].filter(([key, tick]) => tick - (before.get(key) ?? 0) >= REMEMBERED_TICKS)
  return advanced.length >= 2
}

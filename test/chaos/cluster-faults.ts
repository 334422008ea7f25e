import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterStore, Member } from './cluster.ts'
import type { Scene } from './faults.ts'
import { rollBack } from './rollback.ts'
import type { ClusterFaultKind } from './schedule.ts'
import { SHARDS } from './slots.ts'
import { CHANNELS, TOPICS, USERS } from './topics.ts'

/** How long a failover may take. */
const PATIENCE = 20_000
const LOOK_EVERY = 50
/** How long a fault waits for another one to be over. */
const WAIT = 3000
const LONGEST_PAUSE = 1500
/** Keys of a slot that are moved in one step: the fewer, the more may come between two of them. */
const AT_ONCE = [1, 3, 10]
const AT_A_TIME = { pause: 0, atOnce: 10 }

/** What happens to one shard of a Cluster while the others are well. */
export const CLUSTER_FAULTS: Record<ClusterFaultKind, (scene: Scene) => Promise<void>> = {
  'shard-failover': scene =>
    failing(scene, async ({ replica }) => {
      // Without asking the others and its master, or with them.
      const how = scene.random.next() < 0.4 ? ['TAKEOVER'] : []
      await replica.process.admin.call('CLUSTER', 'FAILOVER', ...how)
      await sleep(scene.duration / 4)
    }),
  'shard-kill': scene =>
    failing(scene, async ({ master }) => {
      await master.process.kill()
      await awayFor(scene, master)
      await master.process.start()
    }),
  'shard-stop': scene =>
    failing(scene, async ({ master }) => {
      master.process.signal('SIGSTOP')
      await awayFor(scene, master)
      master.process.signal('SIGCONT')
    }),
  'shard-split': scene => failing(scene, parts => split(scene, parts)),
  'shard-rollback': async scene => {
    const store = storeOf(scene)
    await withShard(scene, async shard => {
      await rollBack(scene, { server: store.masterOf(shard).process, details: { shard } })
      await store.whole()
    })
  },
  'slot-move': moveTopic,
  'stream-move': scene => moveSlot(scene, { key: 'push:ingress', topic: 'ingress' }),
  'master-join': newcomer,
  'library-flush': async ({ world, random, begun }) => {
    const { server, details } = random.pick(world.store.masters)
    begun(details)
    await server.admin.call('FUNCTION', 'FLUSH').catch(() => {})
  },
}

const storeOf = ({ world }: Pick<Scene, 'world'>): ClusterStore => world.store as ClusterStore

/** What takes them lets them go; if that lasts too long, this does not happen. */
async function taken(
  store: ClusterStore,
  shards: () => number[],
  isFailing: boolean,
): Promise<(() => void) | undefined> {
  const deadline = Date.now() + WAIT
  for (;;) {
    const free = store.take(shards(), isFailing)
    if (free || Date.now() > deadline) return free
    await sleep(LOOK_EVERY)
  }
}

async function withShard(scene: Scene, act: (shard: number) => Promise<void>): Promise<void> {
  const shard = scene.random.index(SHARDS)
  const free = await taken(storeOf(scene), () => [shard], true)
  if (!free) return
  try {
    await storeOf(scene).changing(shard, () => act(shard))
  } finally {
    free()
  }
}

interface Parts {
  master: Member
  replica: Member
}

/** What may end with another master, or not: the judge goes by what came of it. */
function failing(scene: Scene, act: (parts: Parts) => Promise<void>): Promise<void> {
  const store = storeOf(scene)
  return withShard(scene, async shard => {
    const parts = { master: store.masterOf(shard), replica: store.replicaOf(shard) }
    scene.begun({ shard })
    await act(parts)
    await store.whole()
    scene.learned({ promoted: store.masterOf(shard) !== parts.master })
  })
}

/** Two times of three until the replica has taken over, and a while longer; else perhaps too short for that. */
async function awayFor(scene: Scene, master: Member): Promise<void> {
  if (scene.random.next() < 2 / 3) await replaced(scene, master)
  await sleep(scene.duration / 3)
}

async function replaced(scene: Scene, master: Member): Promise<void> {
  const deadline = Date.now() + PATIENCE
  while (!(await storeOf(scene).isReplaced(master)) && Date.now() < deadline) await sleep(LOOK_EVERY)
}

/** The replica is sent nothing for a while. Then it is master without what came meanwhile, or follows as if nothing had been. */
async function split(scene: Scene, { master, replica }: Parts): Promise<void> {
  const { random, duration } = scene
  const resume = master.link.holdReplication()
  const end = random.next()
  await sleep(duration)
  if (end < 0.4) {
    await replica.process.admin.call('CLUSTER', 'FAILOVER', 'TAKEOVER')
  } else if (end < 0.8) {
    await master.process.kill()
    await replaced(scene, master)
    await master.process.start()
  }
  resume()
}

/** While clients come back to the topics that move. */
function moveTopic(scene: Scene): Promise<void> {
  const { random } = scene
  const isOfTicks = random.next() < 1 / 8
  const topic = random.pick([...CHANNELS, ...USERS, ...TOPICS])
  const key = isOfTicks ? `{push:shard-${random.index(SHARDS)}}` : `push:${topic}`
  return moveSlot(scene, { key, topic: isOfTicks ? key : topic })
}

async function moveSlot(scene: Scene, { key, topic }: { key: string; topic: string }): Promise<void> {
  const { random, duration, world } = scene
  const store = storeOf(scene)
  const turn = 1 + random.index(SHARDS - 1)
  const to = () => (store.homeOf(key) + turn) % SHARDS
  const free = await taken(store, () => [store.homeOf(key), to()], false)
  if (!free) return
  try {
    scene.begun({ topic })
    if (random.next() < 0.5) world.clients.tell({ e: 'drop', share: 0.3 })
    const pause = random.next() < 0.5 ? Math.min(duration, LONGEST_PAUSE) : 0
    await store.move(key, to(), { pause, atOnce: random.pick(AT_ONCE) })
  } finally {
    free()
  }
}

/** One more master gets the slots of some topics, and gives them back before it leaves. */
async function newcomer(scene: Scene): Promise<void> {
  const { random, duration } = scene
  const store = storeOf(scene)
  const free = await taken(store, () => store.shards, true)
  if (!free) return
  try {
    scene.begun()
    await store.withNewcomer(async joined => {
      const keys = [random.pick(CHANNELS), random.pick(USERS)].map(topic => `push:${topic}`)
      const homes = keys.map(key => store.homeOf(key))
      for (const key of keys) await store.move(key, joined, AT_A_TIME)
      await sleep(duration)
      for (const [i, key] of keys.entries()) await store.move(key, homes[i]!, AT_A_TIME)
    })
  } finally {
    free()
  }
}

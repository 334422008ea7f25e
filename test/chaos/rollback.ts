import { setTimeout as sleep } from 'node:timers/promises'
import type { Scene } from './faults.ts'
import type { RedisProcess } from './redis-server.ts'
import type { Target } from './store.ts'

const REMEMBERED_TICKS = 2
const PATIENCE = 4000

/** Everything after the snapshot is gone. Nodes that ticked meanwhile can tell; what no node saw is no promise. */
export async function rollBack({ duration, begun }: Scene, { server, details }: Target): Promise<void> {
  const before = await ticksOf(server)
  const since = Date.now()
  const copy = server.snapshot()
  await sleep(Math.min(duration, 1500))
  while (!areRemembered(before, await ticksOf(server))) {
    if (Date.now() - since > PATIENCE) return
    await sleep(100)
  }
  // From the moment of the snapshot on: that is what is lost.
  begun({ since, ...details })
  await server.kill()
  server.restore(copy)
  await sleep(duration / 3)
  await server.start()
}

type Ticks = Map<string, number>

async function ticksOf({ admin }: RedisProcess): Promise<Ticks> {
  const keys = await admin.keys('{push:shard-*}:tick:*')
  const values = await Promise.all(keys.map(key => admin.get(key).catch(() => null)))
  return new Map(keys.map((key, i) => [key, Number(values[i])]))
}

function areRemembered(before: Ticks, after: Ticks): boolean {
  const advanced = [...after].filter(([key, tick]) => tick - (before.get(key) ?? 0) >= REMEMBERED_TICKS)
  return advanced.length >= 2
}

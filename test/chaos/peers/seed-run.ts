import { setTimeout as sleep } from 'node:timers/promises'
import { strike } from '../faults.ts'
import { type FaultKind, scheduleOf } from '../schedule.ts'
import { World } from '../world.ts'
import { judgePeer, type Score } from './judge.ts'

export interface PeerRun {
  seed: number
  seconds: number
  clients: number
  programs: string
  keep: boolean
}

/** What happens to everybody's nodes, networks and Redis; nothing that only a history could feel. */
const KINDS: FaultKind[] = [
  'link-cut',
  'link-hole',
  'client-kill-pubsub',
  'redis-kill',
  'node-kill',
  'node-term',
  'mass-disconnect',
]
const RECOVERY_TIME = 10_000
const ROUND = 2500
const ENDING = 5000

/** One run of one peer: the faults of the seed, then time to get well, then judgement. */
export async function runPeer({ seed, seconds, clients, programs, keep }: PeerRun): Promise<Score> {
  const options = {
    seed,
    clients,
    programs,
    topology: 'single',
    nodes: 3,
    lanes: 4,
    pace: 30,
    withPhp: false,
    ingress: [],
  } as const
  const world = new World(options)
  try {
    await world.start()
    await happen(world, seconds)
    await quieten(world)
    await world.clients.ask({ e: 'end' }, 'ended', ENDING)
  } finally {
    await world.close()
  }
  const score = judgePeer(world.folder)
  if (!keep) world.forget()
  return score
}

async function happen(world: World, seconds: number): Promise<void> {
  // Without time for faults there are none: what is missing then is the fault of this comparison.
  const faults =
    seconds > 0 ? scheduleOf({ seed: world.options.seed, seconds, topology: 'single', kinds: KINDS }).faults : []
  const begin = Date.now()
  const striking = faults.map(async fault => {
    await sleep(begin + fault.at - Date.now())
    await strike(world, fault)
  })
  await Promise.all([sleep(seconds * 1000), ...striking])
}

/** Everybody comes back while it is still published, and then gets what is still on its way. */
async function quieten(world: World): Promise<void> {
  await world.clients.ask({ e: 'gather' }, 'gathered', RECOVERY_TIME).catch(() => {})
  await sleep(1000)
  await world.endPublishing()
  const deadline = Date.now() + RECOVERY_TIME
  for (let round = 0; Date.now() < deadline; round++) {
    const { canaries } = await world.publishers.ask({ e: 'canary', round }, 'canaries', 2 * RECOVERY_TIME)
    if (await world.clients.ask({ e: 'await', canaries }, 'up-to-date', ROUND).catch(() => false)) return
  }
  world.journal.write({ e: 'deaf' })
}

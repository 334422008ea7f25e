import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/index.ts'
import { Random } from '../chaos/random.ts'
import { cleanups } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { once, START, until, within } from '../helpers/waiting.ts'
import { Mutator } from './mutator.ts'

interface Cleanup {
  after(hook: () => unknown): void
}

export interface State {
  usage: { bytes: number; descriptors: number }
  status: Status
  /** What the server below the bridge saw: requests that Node refused by itself, answers that nobody got. */
  notes: Record<string, number>
  channels: string[]
}

export interface Beats {
  beats: number
  p50: number
  p99: number
  max: number
  /** How its connection ended, which it must not. */
  end?: string
}

/** A node, its Redis and a canary, and whatever is thrown at them. */
export interface World {
  redis: RedisServer
  port: number
  apiKey: string
  random: Random
  mutator: Mutator
  /** What the node has logged as an error, and how it ended if it did. */
  failures: string[]
  /** All processes but the one that attacks. */
  pids: number[]
  state(): Promise<State>
  beats(): Promise<Beats>
  end(): Promise<void>
}

export async function buildWorld(test: Cleanup, seed: number): Promise<World> {
  const t = cleanups()
  test.after(() => t.end())
  const redis = await startRedis(t)
  const apiKey = randomBytes(16).toString('hex')
  const failures: string[] = []
  const random = new Random(seed)
  const node = new Peer(t, 'node.ts', { REDIS_URL: redis.url, API_KEY: apiKey }, failures)
  const { port } = (await node.answer()) as { port: number }
  const canary = new Peer(t, 'canary.ts', { REDIS_URL: redis.url, PORT: `${port}` }, failures)
  await canary.answer()
  // A node that could not reach its Redis in time has welcomed it without that: what is here now is what has to stay.
  const isHeard = async () => ((await redis.admin.pubsub('CHANNELS', 'push:user:canary')) as string[]).length > 0
  await until(isHeard, 'the channels of the canary')
  return {
    redis,
    port,
    apiKey,
    random,
    mutator: new Mutator(random),
    failures,
    pids: [node.pid, canary.pid, redis.pid],
    async state() {
      const state = (await node.ask()) as Omit<State, 'channels'>
      const channels = ((await redis.admin.pubsub('CHANNELS', '*')) as string[]).toSorted()
      return { ...state, channels }
    },
    beats: () => canary.ask() as Promise<Beats>,
    end: () => t.end(),
  }
}

/** Lines of a log that are kept: the first say most. */
const MAX_FAILURES = 100

/** A process that answers. */
class Peer {
  readonly #child: ChildProcess
  readonly #ended: Promise<never>

  constructor(t: Cleanup, file: string, env: Record<string, string>, failures: string[]) {
    const script = fileURLToPath(new URL(file, import.meta.url))
    const child = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', script], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#child = child
    let isWanted = true
    for (const input of [child.stdout!, child.stderr!]) {
      createInterface({ input }).on('line', line => {
        if (failures.length < MAX_FAILURES) failures.push(`${file}: ${line.slice(0, 1000)}`)
      })
    }
    this.#ended = new Promise((_resolve, reject) => {
      child.once('exit', (code, signal) => {
        if (isWanted) failures.push(`${file} ended with ${code ?? signal}`)
        reject(new Error(`${file} ended with ${code ?? signal}: ${failures.slice(-20).join('\n')}`))
      })
    })
    this.#ended.catch(() => {})
    t.after(async () => {
      isWanted = false
      if (child.exitCode !== null || child.signalCode !== null) return
      const exit = once(child, 'exit')
      child.kill('SIGKILL')
      await exit
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  async answer(): Promise<unknown> {
    const [message] = await Promise.race([once(this.#child, 'message', START), this.#ended])
    return message
  }

  ask(): Promise<unknown> {
    const coming = this.answer()
    if (this.#child.connected) this.#child.send('ask')
    return coming
  }
}

/** The state once the node has nothing left to do for those who attacked it. */
export async function restingState(world: World, before: State): Promise<State> {
  let state = await world.state()
  const isAtRest = () =>
    state.status.connections <= before.status.connections &&
    state.status.pendingUpgrades === 0 &&
    state.channels.join() === before.channels.join() &&
    state.usage.descriptors <= before.usage.descriptors
  const look = async () => {
    state = await within(world.state(), 'the state of the node')
    return isAtRest()
  }
  await until(look, () => `the node is at rest: ${describe(before, state)}`)
  return state
}

function describe(before: State, after: State): string {
  const gone = after.channels.filter(channel => !before.channels.includes(channel))
  const { connections, pendingUpgrades } = after.status
  const { descriptors } = after.usage
  return JSON.stringify({
    connections,
    pendingUpgrades,
    descriptors,
    before: before.usage.descriptors,
    gone: gone.slice(0, 5),
  })
}

/** How much each counter whose name begins so has grown, by reason. */
export function growth(before: State, after: State, name: string): Record<string, number> {
  const grown: Record<string, number> = {}
  for (const [key, by] of Object.entries(grownBy(before.status.metrics, after.status.metrics))) {
    const [, base, reason = ''] = /^(\w+)(?:\{(.*)\})?$/.exec(key)!
    if (base === name) grown[reason] = by
  }
  return grown
}

/** What has grown, and by how much. */
export function grownBy(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  const grown = Object.entries(after).map(([key, count]) => [key, count - (before[key] ?? 0)] as const)
  return Object.fromEntries(grown.filter(([, by]) => by > 0))
}

export const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((all, n) => all + n, 0)

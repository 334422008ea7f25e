import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Redis, type RedisOptions } from 'ioredis'
import { type Cleanup, temporaryFolder } from './processes.ts'
import { findRedisServer } from './programs.ts'
import { freePort, type RedisServer, startRedis } from './redis.ts'
import { once, until, within } from './waiting.ts'

export const NAME = 'mymaster'

/** Milliseconds without an answer after which a Sentinel takes a server for dead. */
const DOWN_AFTER = 500

/**
 * What Sentinels do every second or ten, here they do sooner; those before 7.0 are slower. Four times the publish-period
 * has to be longer than a second, after which at the latest they see that a replica was promoted: they would demote it.
 */
const HASTE = {
  'info-period': 100,
  // While a master is dead, its replica is asked every second how it is, and an answer counts for five of these: with
  // a shorter one Sentinels that were elected find every other time that no replica is fit.
  'ping-period': 400,
  'ask-period': 100,
  'publish-period': 500,
  'election-timeout': 1000,
  // A Sentinel that was not run for two seconds does nothing for half a minute.
  'tilt-trigger': 30_000,
  'tilt-period': 1000,
}

/** The last lines of its log that a Sentinel is remembered by: an election has some twenty. */
const KEPT_LINES = 120

export interface SentinelProcess {
  readonly port: number
  readonly admin: Redis
  /** The end of its log: why no master was elected stands nowhere else. */
  readonly log: string
  freeze(): void
  thaw(): void
}

/** Throw-away servers of one master and replica each, and the Sentinels that watch them. */
export interface RedisSentinels {
  readonly servers: readonly RedisServer[]
  readonly sentinels: readonly SentinelProcess[]
  /** What a node is given to find the master. */
  readonly source: { sentinels: { host: string; port: number }[]; name: string }
  /** The master that all Sentinels name, with the other server in step as its replica. */
  settled(): Promise<RedisServer>
  /** The master that these Sentinels name; undefined while they do not agree. */
  master(sentinels?: readonly SentinelProcess[]): Promise<RedisServer | undefined>
  /** From now on a server is taken for dead as soon as by Sentinels that were not given `downAfter`. */
  hasten(): Promise<void>
  /** The ends of the logs of all Sentinels. */
  readonly log: string
}

export interface SentinelOptions {
  sentinels?: number
  replica?: boolean
  /** Milliseconds without an answer after which a server is taken for dead. Default: half a second. */
  downAfter?: number
  /** Of each of the servers. */
  args?: string[] | (() => Promise<string[]>)
  /** Where the Sentinels, the replica and the nodes reach a server, if not at its port. */
  portOf?: (server: RedisServer) => Promise<number>
  /** Lines of the configuration of each Sentinel. */
  lines?: (port: number) => string[]
  /** How the tests themselves get in. */
  client?: RedisOptions
}

export async function startSentinels(t: Cleanup, options: SentinelOptions = {}): Promise<RedisSentinels> {
  const { sentinels: count = 3, replica = true, args = [], portOf = async ({ port }) => port } = options
  const start = async () => {
    const own = typeof args === 'function' ? await args() : args
    return startRedis(t, { args: [...own, '--repl-diskless-sync-delay', '0'] })
  }
  const servers = [await start()]
  if (replica) servers.push(await start())
  const ports = await Promise.all(servers.map(portOf))
  if (replica) await servers[1]!.admin.call('REPLICAOF', '127.0.0.1', ports[0]!)
  const starting = Array.from({ length: count }, () => startSentinel(t, ports[0]!, options))
  const started = new Started(servers, ports, await Promise.all(starting))
  if (replica) await started.settled()
  return started
}

/** One Sentinel more, which watches the server at `masterPort` and calls it as the others call theirs. */
export async function startSentinel(
  t: Cleanup,
  masterPort: number,
  { sentinels = 3, downAfter = DOWN_AFTER, lines: linesOf = () => [], client = {} }: SentinelOptions = {},
): Promise<SentinelProcess> {
  const port = await freePort()
  const folder = temporaryFolder(t)
  const file = join(folder, 'sentinel.conf')
  const rules = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    `sentinel monitor ${NAME} 127.0.0.1 ${masterPort} ${Math.floor(sentinels / 2) + 1}`,
    `sentinel down-after-milliseconds ${NAME} ${downAfter}`,
    `sentinel failover-timeout ${NAME} 2000`,
    ...linesOf(port),
  ]
  writeFileSync(file, `${rules.join('\n')}\n`)
  const process = spawn(findRedisServer()!, [file, '--sentinel'], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => kill(process))
  const lines: string[] = []
  createInterface(process.stdout).on('line', line => {
    lines.push(line)
    if (lines.length > KEPT_LINES) lines.shift()
  })
  const ours = { port, host: '127.0.0.1', retryStrategy: () => 50, maxRetriesPerRequest: null }
  const admin = new Redis({ ...ours, ...client, replyMapping: 'legacy' })
  admin.on('error', () => {})
  t.after(() => admin.disconnect())
  await within(
    admin.call('SENTINEL', 'DEBUG', ...Object.entries(HASTE).flat()).catch(() => {}),
    'a Sentinel answers',
  )
  return {
    port,
    admin,
    get log() {
      return `the Sentinel at ${port}:\n${lines.join('\n')}\n`
    },
    freeze: () => void process.kill('SIGSTOP'),
    thaw: () => void process.kill('SIGCONT'),
  }
}

/** Says what the Sentinels did when a test has failed: whether they or the node were too slow is not to be seen otherwise. */
export function explainFailure(test: object, { log }: { log: string }): void {
  // Node 20.12 has it, its types do not.
  if ((test as { passed?: boolean }).passed === false) process.stderr.write(`${log}\n`)
}

async function kill(process: ChildProcess): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return
  process.kill('SIGKILL')
  await once(process, 'exit')
}

class Started implements RedisSentinels {
  readonly servers: readonly RedisServer[]
  readonly sentinels: readonly SentinelProcess[]
  readonly #ports: readonly number[]

  constructor(servers: readonly RedisServer[], ports: readonly number[], sentinels: readonly SentinelProcess[]) {
    this.servers = servers
    this.#ports = ports
    this.sentinels = sentinels
  }

  get log(): string {
    return this.sentinels.map(({ log }) => log).join('\n')
  }

  get source() {
    return { sentinels: this.sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: NAME }
  }

  async master(sentinels = this.sentinels): Promise<RedisServer | undefined> {
    const ports = await Promise.all(sentinels.map(({ admin }) => portBy(admin)))
    return ports.every(port => port === ports[0]) ? this.servers[this.#ports.indexOf(ports[0]!)] : undefined
  }

  async hasten(): Promise<void> {
    const set = ({ admin }: SentinelProcess) =>
      admin.call('SENTINEL', 'SET', NAME, 'down-after-milliseconds', DOWN_AFTER)
    await Promise.all(this.sentinels.map(set))
  }

  async settled(): Promise<RedisServer> {
    let master: RedisServer | undefined
    const look = async () => {
      master = await this.master()
      return master && (await this.#isWhole(master))
    }
    await until(look, () => `the Sentinels agree, and the replica is in step; the master is ${master?.port}`)
    return master!
  }

  /** A Sentinel that does not know the others or the replica would begin no failover. */
  async #isWhole(master: RedisServer): Promise<boolean> {
    const views = await Promise.all(this.sentinels.map(({ admin }) => viewOf(admin)))
    const isKnown = views.every(
      view =>
        view['num-other-sentinels'] === String(this.sentinels.length - 1) &&
        view['num-slaves'] === '1' &&
        view.flags === 'master',
    )
    if (!isKnown) return false
    const info = await master.admin.info('replication').catch(() => '')
    return info.includes('role:master') && /slave0:.*state=online/.test(info)
  }
}

async function portBy(admin: Redis): Promise<number> {
  const address = (await admin.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)) as string[] | null
  return Number(address?.[1])
}

async function viewOf(admin: Redis): Promise<Record<string, string>> {
  const flat = (await admin.call('SENTINEL', 'MASTER', NAME)) as string[]
  return Object.fromEntries(flat.flatMap((key, i) => (i % 2 === 0 ? [[key, flat[i + 1]!]] : [])))
}

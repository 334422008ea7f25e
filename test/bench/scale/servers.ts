import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { cpuSeconds } from '../lib/machine.ts'

const BINARY = process.env.REDIS_SERVER_BIN ?? 'redis-server'
const SLOTS = 16_384
const PATIENCE = 30_000

/** What a publisher must know of a server. */
export interface Place {
  port: number
  /** The first and the last of its slots. */
  slots: [first: number, last: number]
}

/** Throw-away servers on loopback: one Redis, or the masters of a Cluster with an equal share of the slots each. */
export interface Servers {
  readonly places: readonly Place[]
  readonly admins: readonly Redis[]
  /** The option `redis` of a node. */
  readonly source: string | { cluster: string[] }
  /** CPU seconds of all of them so far. */
  cpu(): number
  /** A number of INFO or CLUSTER INFO, summed over all of them. */
  sum(section: 'stats' | 'memory' | 'cluster', field: string): Promise<number>
  /** Bytes that they have sent to each other so far. NaN where `ss` is missing. */
  busBytes(): number
  stop(): Promise<void>
}

interface Server {
  port: number
  bus: number
  pid: number
  admin: Redis
  stop(): Promise<void>
}

/** Nobody is cut off, however much waits for a subscriber: what is measured is what it costs. */
const OPTIONS = ['--save', '', '--appendonly', 'no', '--client-output-buffer-limit', 'pubsub 0 0 0']

export async function startServers(masters: number, { isCluster = true } = {}): Promise<Servers> {
  const servers = await Promise.all(Array.from({ length: masters }, () => startServer(isCluster)))
  const admins = servers.map(({ admin }) => admin)
  const places = servers.map(({ port }, i): Place => {
    const first = Math.floor((SLOTS * i) / masters)
    return { port, slots: [first, Math.floor((SLOTS * (i + 1)) / masters) - 1] }
  })
  if (isCluster) await meet(servers, places)
  const urls = servers.map(({ port }) => `redis://127.0.0.1:${port}`)
  return {
    places,
    admins,
    source: isCluster ? { cluster: urls } : urls[0]!,
    cpu: () => servers.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0),
    async sum(section, field) {
      const pattern = new RegExp(`^${field}:(\\d+)`, 'm')
      const ask = (admin: Redis) => (section === 'cluster' ? admin.call('CLUSTER', 'INFO') : admin.info(section))
      const texts = await Promise.all(admins.map(ask))
      return texts.reduce<number>((sum, text) => sum + Number(pattern.exec(String(text))?.[1] ?? 0), 0)
    },
    busBytes: () => bytesSent(servers.map(({ bus }) => bus)),
    async stop() {
      await Promise.all(servers.map(server => server.stop()))
    },
  }
}

const running = new Set<ChildProcess>()
// However the bench ends: nothing is left running.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

async function startServer(isCluster: boolean): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'push-scale-redis-'))
  const [port, bus] = [await freePort(), await freePort()]
  const cluster = isCluster ? ['--cluster-enabled', 'yes', '--cluster-port', String(bus)] : []
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...OPTIONS, ...cluster]
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  running.add(child)
  const exited = once(child, 'exit').finally(() => running.delete(child))
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', chunk => String(chunk).includes('eady to accept connections') && resolve())
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`${BINARY} exited with ${code}`)))
  })
  const admin = new Redis(port, '127.0.0.1')
  admin.on('error', () => {})
  return {
    port,
    bus,
    pid: child.pid!,
    admin,
    async stop() {
      admin.disconnect()
      child.kill('SIGKILL')
      await exited
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function meet(servers: readonly Server[], places: readonly Place[]): Promise<void> {
  for (const [i, { admin }] of servers.entries()) {
    await admin.call('CLUSTER', 'ADDSLOTSRANGE', ...places[i]!.slots)
    // Otherwise two that meet settle who is who by chance.
    await admin.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
  }
  const [first, ...others] = servers as [Server, ...Server[]]
  for (const { port, bus } of others) await first.admin.call('CLUSTER', 'MEET', '127.0.0.1', port, bus)
  const deadline = Date.now() + PATIENCE
  for (const { admin } of servers) {
    while (!(await isReady(admin, servers.length))) {
      if (Date.now() > deadline) throw new Error('the Cluster did not come up')
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

async function isReady(admin: Redis, count: number): Promise<boolean> {
  const [info, nodes] = await Promise.all([admin.call('CLUSTER', 'INFO'), admin.call('CLUSTER', 'NODES')])
  const connected = String(nodes).match(/ connected/g)?.length ?? 0
  return String(info).includes('cluster_state:ok') && connected === count && !String(nodes).includes('handshake')
}

/** By both ends of the connections to these ports. */
function bytesSent(ports: readonly number[]): number {
  const filter = ports.map(port => `sport = :${port} or dport = :${port}`).join(' or ')
  const { status, stdout } = spawnSync('ss', ['-tinH', 'state', 'established', `( ${filter} )`], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (status !== 0) return Number.NaN
  return [...stdout.matchAll(/bytes_sent:(\d+)/g)].reduce((sum, [, bytes]) => sum + Number(bytes), 0)
}

/** Below what systems give to whoever wants just any port. */
async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const server = createServer().listen(15_000 + Math.floor(Math.random() * 15_000), '127.0.0.1')
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!isFree) continue
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    return port
  }
  throw new Error('no port is free')
}

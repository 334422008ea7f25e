import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { createClient, type RedisSource, type SingleSource, targetOf } from './client.ts'
import { LIBRARY_VERSION } from './functions.ts'
import { probesFor } from './rights-probes.ts'
import { mastersIn } from './topology.ts'

/** A right that the user lacks, and what does not work without it. */
export interface MissingRight {
  right: string
  fails: string
}

/** What one server said. */
export interface Examined {
  server: string
  /** Why nothing else is known. */
  problem?: string
  user: string
  /** Milliseconds that a PING took. */
  answersIn?: number
  /** INFO, by name; empty if the user may not ask. */
  info: Readonly<Record<string, string>>
  /** CONFIG GET, by name; undefined if the user may not ask, which no node needs. */
  config?: Readonly<Record<string, string>>
  missing: readonly MissingRight[]
  /** Of the functions that are loaded; undefined: none. */
  library?: number
  /** That the nodes of this version load. */
  ownLibrary: number
  /** How many nodes listen at this server. */
  nodes?: number
}

/** More masters than anybody has; each is asked for seconds at most. */
const MOST_MASTERS = 50

const PARAMETERS = ['client-output-buffer-limit', 'appendonly', 'save', 'timeout']

/** Asks every master what it is and what this user may do there. Changes nothing: what a probe writes, it removes. */
export async function examine(source: RedisSource, prefix: string, timeout = 5000): Promise<Examined[]> {
  const target = targetOf(source)
  if (!target.isCluster) return [await examineOne(target.one, prefix, { timeout })]
  const tried: Examined[] = []
  for (const seed of target.seeds.slice(0, MOST_MASTERS)) {
    const asked = await slotsOf(target.at(seed), seed, timeout)
    if ('masters' in asked) {
      const masters = asked.masters.slice(0, MOST_MASTERS)
      return Promise.all(
        masters.map(master =>
          examineOne(target.at(master), prefix, { timeout, cluster: target.sharded ? 'sharded' : 'plain' }),
        ),
      )
    }
    tried.push({ ...blank(`${seed.host}:${seed.port}`), problem: asked.problem })
  }
  return tried
}

const blank = (server: string): Examined => ({
  server,
  user: 'default',
  info: {},
  missing: [],
  ownLibrary: LIBRARY_VERSION,
})

async function slotsOf(source: SingleSource, seed: { host: string }, timeout: number) {
  return withClient(source, 'doctor', timeout, async client => {
    const reply = await client.call('CLUSTER', 'SLOTS').catch((error: Error) => error)
    if (reply instanceof Error) return { problem: reply.message }
    const masters = mastersIn(reply, seed)
    return masters.length > 0 ? { masters } : { problem: 'it has no hash slots: is it part of a Cluster?' }
  })
}

interface How {
  timeout: number
  cluster?: 'plain' | 'sharded'
}

async function examineOne(source: SingleSource, prefix: string, { timeout, cluster }: How): Promise<Examined> {
  const { host, port, path, username, sentinels, name } = createClient(source, 'doctor').options
  const server = sentinels ? `the master ${name} of the Sentinels` : (path ?? `${host}:${port}`)
  const start = { ...blank(server), user: username ?? 'default' }
  const token = `doctor-${randomBytes(8).toString('hex')}`
  const looked = await withClient(source, `${prefix}doctor`, timeout, async client => ({
    ...(await factsOf(client, prefix)),
    missing: await missingOn(client, probesFor(prefix, token, cluster).asked),
  }))
  if ('problem' in looked) return { ...start, problem: looked.problem }
  // What listens can do nothing else on a connection of the older protocol.
  const heard = await withClient(source, `${prefix}doctor`, timeout, async client => ({
    missing: await missingOn(client, probesFor(prefix, token, cluster).heard),
  }))
  const missing = [...looked.missing, ...('missing' in heard ? heard.missing : [])]
  return { ...start, ...looked, missing: [...new Map(missing.map(it => [it.right, it])).values()] }
}

async function factsOf(client: Redis, prefix: string) {
  const ask = (command: string, ...args: string[]) => client.call(command, ...args).catch(() => undefined)
  const start = performance.now()
  await ask('PING')
  const answersIn = performance.now() - start
  const [info, nodes, library] = await Promise.all([
    ask('INFO'),
    ask('PUBSUB', 'NUMSUB', `${prefix}nodes`),
    ask('FCALL', 'push_version', '0'),
  ])
  const parameters = await Promise.all(PARAMETERS.map(name => ask('CONFIG', 'GET', name)))
  const config = parameters.filter(Array.isArray).map(([name, value]) => [String(name), String(value)])
  return {
    answersIn,
    info: parseInfo(String(info ?? '')),
    ...(config.length > 0 && { config: Object.fromEntries(config) as Record<string, string> }),
    ...(typeof library === 'number' && { library }),
    ...(Array.isArray(nodes) && { nodes: Number(nodes[1]) }),
  }
}

function parseInfo(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name, value]) => [name!, value!]))
}

/** One after the other: what a later one removes, an earlier one has written. */
async function missingOn(client: Redis, probes: ReturnType<typeof probesFor>['asked']): Promise<MissingRight[]> {
  const answers = await Promise.all(
    probes.map(({ command: [name, ...args] }) => client.call(name, ...args).catch((error: Error) => error)),
  )
  return probes.flatMap(({ right, pattern, fails }, i) => {
    const message = answers[i] instanceof Error ? answers[i].message : ''
    if (!message.startsWith('NOPERM')) return []
    return [{ right: /command/.test(message) ? right : pattern, fails }]
  })
}

/** Runs `use` on a connection of its own, which is ended; a problem if there is none in time. */
async function withClient<T extends object>(
  source: SingleSource,
  name: string,
  timeout: number,
  use: (client: Redis) => Promise<T>,
): Promise<T | { problem: string }> {
  const client = createClient(source, name)
  let problem = `no answer within ${timeout} ms`
  client.on('error', (error: Error) => {
    problem = error.message
  })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<{ problem: string }>(resolve => {
    timer = setTimeout(() => resolve({ problem }), timeout)
  })
  const used = client.connect().then(
    () => use(client),
    (error: Error) => ({ problem: error.message === 'Connection is closed.' ? problem : error.message }),
  )
  try {
    return await Promise.race([used, late])
  } finally {
    clearTimeout(timer)
    client.disconnect()
  }
}

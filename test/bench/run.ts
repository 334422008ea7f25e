/** The bench: every peer in every scenario, in turn, each run in processes of its own. See README.md. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type Options, parse, USAGE } from './lib/args.ts'
import { CACHE, compile, type Entry, installOptional, installPeers, ourEntry, ourEntryExists } from './lib/build.ts'
import { Child, type Start } from './lib/child.ts'
import { describe, type Machine, pinSelf } from './lib/machine.ts'
import type { Peer } from './lib/peers.ts'
import { type Redis, redisVersion, startRedis } from './lib/redis.ts'
import { median, type Result, table } from './lib/report.ts'
import type { Outcome, Scenario } from './lib/scenario.ts'
import { judge } from './lib/targets.ts'
import { SCENARIOS } from './scenarios/index.ts'

interface Bench {
  options: Options
  machine: Machine
  redis: Redis
  entry: Entry | undefined
}

async function main(): Promise<void> {
  const options = parse(process.argv.slice(2), SCENARIOS)
  installPeers()
  installOptional(options.peers)
  await compile()
  const machine = describe(redisVersion())
  pinSelf(machine.loadCpus)
  if (machine.openFiles < 11_000) console.log(`only ${machine.openFiles} open files: d, g and h need ulimit -n 11000`)
  if (!ourEntryExists()) console.log('the plugin is not there yet: without "ours"')
  const entry = ourEntryExists() ? ourEntry() : undefined
  const redis = await startRedis(machine.loadCpus)
  try {
    const results = await runAll({ options, machine, redis, entry })
    finish(options, machine, entry, results)
  } finally {
    await redis.stop()
  }
}

async function runAll(bench: Bench): Promise<Result[]> {
  const all: Result[] = []
  for (const scenario of bench.options.scenarios) {
    for (const variant of scenario.variants) {
      const results = await runVariant(bench, scenario, variant)
      console.log([table(scenario, variant, results), ...(scenario.summarize?.(results) ?? [])].join('\n'))
      all.push(...results)
    }
  }
  return all
}

/** Round by round, so that what disturbs the machine for a while disturbs all; each round begins with another peer. */
async function runVariant(bench: Bench, scenario: Scenario, variant: string): Promise<Result[]> {
  const peers = (scenario.peers ?? bench.options.peers).filter(peer => !isOurs(peer) || bench.entry)
  const results = peers.map(
    (peer): Result => ({
      scenario: scenario.id,
      variant,
      peer: peer.name,
      runs: [],
      failures: [],
      median: undefined,
    }),
  )
  for (let round = 0; round < bench.options.repeat; round++) {
    for (let turn = 0; turn < peers.length; turn++) {
      const index = (turn + round) % peers.length
      const result = results[index]!
      try {
        result.runs.push(await runOnce(bench, scenario, variant, peers[index]!))
      } catch (error) {
        result.failures.push((error as Error).message)
      }
    }
  }
  for (const result of results) result.median = median(result.runs)
  return results
}

async function runOnce(bench: Bench, scenario: Scenario, variant: string, peer: Peer): Promise<Outcome> {
  const { options, machine, redis, entry } = bench
  const children: Child[] = []
  const start = async (file: string, more: Partial<Start>) => {
    const child = await Child.start({ file: join(CACHE, file), cpus: machine.loadCpus, ...more })
    children.push(child)
    return child
  }
  const seconds = Math.max(options.deadline / 1000, scenario.deadline ?? 0)
  const deadline = Date.now() + seconds * 1000
  let timer: NodeJS.Timeout | undefined
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`did not finish in ${seconds} s`)), seconds * 1000)
    })
    const openServer = async ({ name }: Peer) => {
      const nodeArgs = ['--expose-gc', ...(isOurs({ name }) ? (entry?.nodeArgs ?? []) : [])]
      const env = { REDIS_URL: redis.url, PORT: '0', NODE_ENV: 'production', OURS_ENTRY: entry?.url ?? '' }
      return start(`peers/${name}.mjs`, { cpus: machine.serverCpus, nodeArgs, env })
    }
    const openLoad = async () => {
      const load = await start('load.mjs', {})
      const publisher = await start('publisher.mjs', {})
      await publisher.request('open', { port: redis.port, hasNoPubsubLimit: scenario.hasNoPubsubLimit ?? false })
      return { load, publisher }
    }
    const another = async (other: Peer) => ({ server: await openServer(other), ...(await openLoad()) })
    const timeLeft = () => deadline - Date.now()
    const work = async () => {
      const processes = await another(peer)
      return scenario.run(
        { ...processes, another, openLoad, peer, redisPort: redis.port, quick: options.quick, timeLeft },
        variant,
      )
    }
    return await Promise.race([work(), late])
  } finally {
    clearTimeout(timer)
    await Promise.all(children.map(child => child.stop()))
  }
}

const isOurs = ({ name }: Pick<Peer, 'name'>): boolean => name.startsWith('ours')

function finish(options: Options, machine: Machine, entry: Entry | undefined, results: Result[]): void {
  const verdicts = judge(results)
  if (verdicts.length > 0) console.log(['### targets', '', ...verdicts, ''].join('\n'))
  if (options.quick) console.log('--quick: these numbers show that it works, not how fast it is\n')
  const file = resolve(options.json ?? join(CACHE, 'result.json'))
  const { repeat, quick, deadline } = options
  const report = {
    date: new Date().toISOString(),
    machine,
    entry: entry?.name,
    repeat,
    quick,
    deadline,
    results,
    verdicts,
  }
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`)
  if (entry) console.log(`ours is ${entry.name}`)
  console.log(`${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, Redis ${machine.redis}; JSON in ${file}`)
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

main().catch(error => {
  console.error((error as Error).message)
  if (process.argv.length > 2) console.error(USAGE)
  process.exitCode = 1
})

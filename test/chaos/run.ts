import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { findProgram } from '../helpers/programs.ts'
import { buildPrograms, forgetPrograms, type Replacement } from './build.ts'
import { INGRESS_KINDS, type IngressKind } from './ingress.ts'
import { runMutants } from './mutants.ts'
import { Queues } from './queues.ts'
import { REGRESSIONS } from './regressions.ts'
import { lineOf, reportOf } from './report.ts'
import type { FaultKind } from './schedule.ts'
import { runBounded, type SeedOptions } from './seed-run.ts'
import { TOPOLOGIES, type Topology } from './store.ts'
import type { Verdict } from './verdict.ts'

const USAGE = `npm run test:chaos -- [--seed N | --seeds A..B | --regressions | --mutants [NAME]]
  [--seconds 6] [--parallel 1] [--clients 110] [--visitors 16] [--topology ${TOPOLOGIES.join('|')}] [--kinds a,b] [--keep]
  [--ingress streams]  queues through which publications come in, too: some of ${INGRESS_KINDS.join(',')}
  [--patch FILE]  judge a copy with these replacements: [{file, find, replace}], to try a remedy`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    seconds: { type: 'string', default: '6' },
    parallel: { type: 'string', default: '1' },
    clients: { type: 'string', default: '110' },
    visitors: { type: 'string', default: '16' },
    topology: { type: 'string', default: 'single' },
    kinds: { type: 'string' },
    ingress: { type: 'string', default: 'streams' },
    keep: { type: 'boolean', default: false },
    patch: { type: 'string' },
    regressions: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

/** Of a run in which the mock of Kafka has ended. */
const MOST_REPEATS = 3

function seedsOf(): number[] {
  if (values.regressions)
    return REGRESSIONS.filter(({ topology }) => topology === values.topology).map(({ seed }) => seed)
  if (values.seed !== undefined) return [Number(values.seed)]
  const [first, last] = (values.seeds ?? '1..5').split('..').map(Number) as [number, number]
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

function ingressOf(): IngressKind[] {
  const kinds = values.ingress.split(',').filter(kind => kind !== '') as IngressKind[]
  const unknown = kinds.find(kind => !INGRESS_KINDS.includes(kind))
  if (unknown !== undefined) throw new Error(`--ingress: there is no ${unknown}, only ${INGRESS_KINDS.join(',')}`)
  return kinds
}

function optionsFor(seed: number, programs: string): SeedOptions {
  return {
    seed,
    programs,
    topology: values.topology as Topology,
    nodes: 3,
    clients: Number(values.clients),
    visitors: Number(values.visitors),
    lanes: 2,
    pace: 20,
    withPhp: findProgram('php') !== undefined,
    seconds: Number(values.seconds),
    kinds: values.kinds?.split(',') as FaultKind[] | undefined,
    ingress: ingressOf(),
    keep: values.keep,
  }
}

async function runSeeds(seeds: readonly number[], programs: string): Promise<Verdict[]> {
  const left = [...seeds]
  const verdicts: Verdict[] = []
  const worker = async () => {
    const queues = await Queues.start(ingressOf())
    for (let seed = left.shift(); seed !== undefined; seed = left.shift()) {
      let verdict = await runBounded({ ...optionsFor(seed, programs), queues })
      for (let repeats = 0; repeats < MOST_REPEATS && (await queues.mend()); repeats++) {
        process.stdout.write(`seed ${seed}: the mock of Kafka ended by itself; once more\n`)
        verdict = await runBounded({ ...optionsFor(seed, programs), queues })
      }
      process.stdout.write(`${lineOf(verdict)}\n`)
      verdicts.push(verdict)
    }
    await queues.close()
  }
  await Promise.all(Array.from({ length: Number(values.parallel) }, worker))
  return verdicts
}

async function main(): Promise<boolean> {
  if (values.help) {
    process.stdout.write(`${USAGE}\n`)
    return true
  }
  const patch = (values.patch ? JSON.parse(readFileSync(values.patch, 'utf8')) : []) as Replacement[]
  if (values.mutants) return runMutants(positionals, optionsFor, patch)
  const programs = await buildPrograms(patch)
  const begin = Date.now()
  const verdicts = await runSeeds(seedsOf(), programs)
  const seconds = Math.round((Date.now() - begin) / 1000)
  process.stdout.write(`\n${reportOf(verdicts)}\ntook             ${seconds} s (${values.topology})\n`)
  forgetPrograms(programs)
  return verdicts.every(({ violations }) => violations.length === 0)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
process.exit((await main()) ? 0 : 1)

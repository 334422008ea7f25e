import { parseArgs } from 'node:util'
import { cleanups } from '../helpers/processes.ts'
import { attack, INPUTS, type Report, TARGETS } from './attack.ts'
import { keepApart } from './cores.ts'
import { type Beats, buildWorld } from './world.ts'

/** `npm run test:fuzz -- --seed 7 --count 1000000 --seconds 3600 --target channels,frames` */
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    /** Default: `INPUTS` of each target. */
    count: { type: 'string' },
    /** A bound for each target. A million of the slowest inputs take 25 minutes where all share one core. */
    seconds: { type: 'string', default: '5400' },
    target: { type: 'string', default: Object.keys(TARGETS).join() },
  },
})

/** How long the canary is measured before the attack, in milliseconds. */
const REST = 5000

const names = values.target.split(',')
const unknown = names.find(name => !Object.hasOwn(TARGETS, name))
if (unknown !== undefined) throw new Error(`--target: there is no ${unknown}, only ${Object.keys(TARGETS).join(', ')}`)
for (const name of ['seed', 'count', 'seconds'] as const) {
  if (!(Number(values[name] ?? 1) >= 0)) throw new Error(`--${name} is no number: ${values[name]}`)
}

const latency = ({ p50, p99 }: Beats) => `${p50} / ${p99}`

/** What is known when all are over: one line for each target. */
const table = [
  '| target | inputs | seconds | canary at rest, p50 / p99 in ms | attacked | problems |',
  '| --- | --- | --- | --- | --- | --- |',
]

function write(name: string, rest: Beats, report: Report): void {
  const { inputs, seconds, beats, bytes, descriptors, problems } = report
  const kib = Math.round(bytes / 1024)
  console.log(
    `${name}: ${inputs} inputs in ${seconds.toFixed(1)} s; memory ${kib >= 0 ? '+' : ''}${kib} KiB; descriptors ` +
      `${descriptors.join(' before, ')} after`,
  )
  console.log(
    `  canary: at rest p50 ${rest.p50} ms, p99 ${rest.p99} ms; attacked p50 ${beats.p50} ms, p99 ${beats.p99} ms, ` +
      `max ${beats.max} ms of ${beats.beats}`,
  )
  console.log(`  seen: ${list(report.outcomes)}`)
  for (const [counter, grown] of Object.entries(report.counted)) {
    if (Object.keys(grown).length > 0) console.log(`  ${counter}: ${list(grown)}`)
  }
  if (Object.keys(report.notes).length > 0) console.log(`  below the bridge: ${list(report.notes)}`)
  for (const problem of problems.slice(0, 20)) console.log(`  PROBLEM ${problem}`)
  const cells = [name, inputs.toLocaleString('en'), Math.round(seconds), latency(rest), latency(beats), problems.length]
  table.push(`| ${cells.join(' | ')} |`)
}

function list(counts: Record<string, number>): string {
  const most = Object.entries(counts).toSorted(([, a], [, b]) => b - a)
  return most.map(([what, n]) => `${what}: ${n}`).join(', ')
}

async function run(name: string): Promise<number> {
  const all = cleanups()
  try {
    const world = await buildWorld(all, Number(values.seed))
    const isApart = keepApart(world.pids)
    // The first beats are those of a process that has just started.
    await world.beats()
    await new Promise(resolve => setTimeout(resolve, REST))
    const beats = await world.beats()
    const count = Number(values.count ?? INPUTS[name])
    console.log(`${name}: ${count} inputs, by a program ${isApart ? 'with a core of its own' : 'on the same cores'}`)
    const limits = { count, seconds: Number(values.seconds), rest: { beats, isApart } }
    const report = await attack(world, TARGETS[name]!, limits)
    write(name, beats, report)
    return report.problems.length
  } catch (error) {
    // What ended the node, or what did not come to an end: the other targets are attacked all the same.
    console.log(`  PROBLEM ${(error as Error).stack?.slice(0, 4000)}`)
    table.push(`| ${name} | – | – | – | – | 1 |`)
    return 1
  } finally {
    await all.end()
  }
}

let failed = 0
console.log(`seed ${values.seed}`)
for (const name of names) failed += await run(name)
console.log(table.join('\n'))
console.log(failed > 0 ? `${failed} problems` : 'no problem')
process.exitCode = failed > 0 ? 1 : 0

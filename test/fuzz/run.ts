import { parseArgs } from 'node:util'
import { cleanups } from '../helpers/processes.ts'
import { attack, type Report, TARGETS } from './attack.ts'
import { buildWorld } from './world.ts'

/** `npm run test:fuzz -- --seed 7 --count 1000000 --seconds 300 --target channels,frames` */
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    count: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '300' },
    target: { type: 'string', default: Object.keys(TARGETS).join() },
  },
})

/** How long the canary is measured before the attack, in milliseconds. */
const REST = 2000

const names = values.target.split(',')
const unknown = names.find(name => !Object.hasOwn(TARGETS, name))
if (unknown !== undefined) throw new Error(`--target: there is no ${unknown}, only ${Object.keys(TARGETS).join(', ')}`)
for (const name of ['seed', 'count', 'seconds'] as const) {
  if (!(Number(values[name]) >= 0)) throw new Error(`--${name} is no number: ${values[name]}`)
}

function write(name: string, { inputs, seconds, beats, bytes, descriptors, ...report }: Report): void {
  const kib = Math.round(bytes / 1024)
  console.log(
    `${name}: ${inputs} inputs in ${seconds.toFixed(1)} s; canary p50 ${beats.p50} ms, p99 ${beats.p99} ms, ` +
      `max ${beats.max} ms of ${beats.beats}; memory ${kib >= 0 ? '+' : ''}${kib} KiB; descriptors ` +
      `${descriptors.join(' before, ')} after`,
  )
  console.log(`  seen: ${list(report.outcomes)}`)
  for (const [counter, grown] of Object.entries(report.counted)) {
    if (Object.keys(grown).length > 0) console.log(`  ${counter}: ${list(grown)}`)
  }
  for (const problem of report.problems.slice(0, 20)) console.log(`  PROBLEM ${problem}`)
}

function list(counts: Record<string, number>): string {
  const most = Object.entries(counts).toSorted(([, a], [, b]) => b - a)
  return most.map(([what, n]) => `${what}: ${n}`).join(', ')
}

async function run(name: string): Promise<number> {
  const all = cleanups()
  try {
    const world = await buildWorld(all, Number(values.seed))
    // The first beats are those of a process that has just started.
    await world.beats()
    await new Promise(resolve => setTimeout(resolve, REST))
    const quiet = await world.beats()
    console.log(`${name}: at rest canary p50 ${quiet.p50} ms, p99 ${quiet.p99} ms`)
    const { count, seconds } = values
    const report = await attack(world, TARGETS[name]!, { count: Number(count), seconds: Number(seconds), quiet })
    write(name, report)
    return report.problems.length
  } catch (error) {
    // What ended the node, or what did not come to an end: the other targets are attacked all the same.
    console.log(`  PROBLEM ${(error as Error).stack?.slice(0, 4000)}`)
    return 1
  } finally {
    await all.end()
  }
}

let failed = 0
console.log(`seed ${values.seed}`)
for (const name of names) failed += await run(name)
console.log(failed > 0 ? `${failed} problems` : 'no problem')
process.exitCode = failed > 0 ? 1 : 0

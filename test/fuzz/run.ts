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
const unknown = names.find(name => !(name in TARGETS))
if (unknown !== undefined) throw new Error(`--target: there is no ${unknown}, only ${Object.keys(TARGETS).join(', ')}`)

function write(name: string, { inputs, seconds, beats, bytes, outcomes, problems }: Report): void {
  const kib = Math.round(bytes / 1024)
  console.log(
    `${name}: ${inputs} inputs in ${seconds.toFixed(1)} s; canary p50 ${beats.p50} ms, p99 ${beats.p99} ms, ` +
      `max ${beats.max} ms of ${beats.beats}; ${kib >= 0 ? '+' : ''}${kib} KiB`,
  )
  const most = Object.entries(outcomes).toSorted(([, a], [, b]) => b - a)
  console.log(`  ${most.map(([outcome, n]) => `${outcome}: ${n}`).join(', ')}`)
  for (const problem of problems.slice(0, 20)) console.log(`  PROBLEM ${problem}`)
}

const all = cleanups()
let failed = 0
console.log(`seed ${values.seed}`)
try {
  for (const name of names) {
    const world = await buildWorld(all, Number(values.seed))
    // The first beats are those of a process that has just started.
    await world.beats()
    await new Promise(resolve => setTimeout(resolve, REST))
    const idle = await world.beats()
    console.log(`${name}: at rest canary p50 ${idle.p50} ms, p99 ${idle.p99} ms`)
    const report = await attack(world, name, { count: Number(values.count), seconds: Number(values.seconds) })
    write(name, report)
    failed += report.problems.length
    await world.end()
  }
} finally {
  await all.end()
}
process.exitCode = failed > 0 ? 1 : 0

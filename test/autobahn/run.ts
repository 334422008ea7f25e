import { cleanups } from '../helpers/processes.ts'
import { CASES, judge } from './judge.ts'
import { buildEchoes } from './node.ts'

/** `npm run test:autobahn`: every case, for both ways in which a node sends back what it gets. */
const all = cleanups()
let failed = 0
try {
  const { port, echoes } = await buildEchoes(all)
  for (const echo of echoes) {
    console.log(`\n${echo.name} (${echo.path})\n`)
    console.log(`${'section'.padEnd(24)}${'cases'.padStart(7)}${'passed'.padStart(8)}${'failed'.padStart(8)}`)
    const verdicts = await judge(port, echo, CASES)
    for (const { section, cases, failures } of verdicts) {
      const counts = [cases, cases - failures.length, failures.length]
      console.log(section.padEnd(24) + counts.map((n, i) => String(n).padStart(i === 0 ? 7 : 8)).join(''))
    }
    for (const { section, failures } of verdicts) {
      failed += failures.length
      for (const failure of failures.slice(0, 20)) console.log(`  FAILED ${section}: ${failure}`)
    }
  }
} finally {
  await all.end()
}
console.log(`\n${failed > 0 ? `${failed} failed` : 'all passed'}`)
process.exitCode = failed > 0 ? 1 : 0

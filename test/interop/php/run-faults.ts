import { parseArgs } from 'node:util'
import { cleanups } from '../../helpers/processes.ts'
import { runFaults, startNodes } from './faults.ts'

const options = { seconds: { type: 'string', default: '30' }, seed: { type: 'string', default: '1' } } as const
const { seconds, seed } = parseArgs({ options }).values

const all = cleanups()
try {
  const { problems, ...run } = await runFaults(all, await startNodes(all), {
    seconds: Number(seconds),
    seed: Number(seed),
  })
  process.stdout.write(`${JSON.stringify(run)}\n`)
  for (const problem of problems) process.stdout.write(`${problem}\n`)
  process.stdout.write(
    problems.length === 0 ? 'nothing lost, nothing twice\n' : `${problems.length} problems, seed ${seed}\n`,
  )
  if (problems.length > 0) process.exitCode = 1
} finally {
  await all.end()
}

import { spawn } from 'node:child_process'
import { path } from './processes.ts'
import { once } from './waiting.ts'

/** A run of `npm run test:chaos`, shorter than those. SIGTERM, so that it ends what it has started. */
export async function runChaos(...args: string[]): Promise<{ code: number; output: string }> {
  const run = ['--import', 'tsx', path('test/chaos/run.ts'), ...args]
  const child = spawn(process.execPath, run, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 300_000 })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (output += chunk))
  const [code] = await once(child, 'close', 310_000)
  return { code, output }
}

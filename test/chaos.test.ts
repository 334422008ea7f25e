import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { transformSync } from 'esbuild'
import { MUTANTS } from './chaos/mutants.ts'
import { once } from './helpers/waiting.ts'

/** The long runs are `npm run test:chaos`. */
const ARGUMENTS = ['--seed', '20', '--seconds', '4', '--clients', '30', '--visitors', '4']
const KINDS = {
  single: ['node-kill', 'link-cut', 'client-kill-pubsub', 'drop-reply', 'redis-kill'],
  cluster: ['slot-move', 'shard-kill', 'client-kill-pubsub', 'library-flush'],
  'cluster-sharded': ['slot-move', 'shard-failover', 'link-cut', 'master-join'],
}

const run = fileURLToPath(new URL('./chaos/run.ts', import.meta.url))

for (const [topology, kinds] of Object.entries(KINDS)) {
  test(`${topology}: nothing is lost in silence while faults happen (seed 20)`, async () => {
    const args = ['--import', 'tsx', run, ...ARGUMENTS, '--topology', topology, '--kinds', kinds.join(',')]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 300_000 })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (output += chunk))
    const [code] = await once(child, 'close', 310_000)
    assert.equal(code, 0, output)
    assert.match(output, /recoveries\s+\d+:.*replayed [1-9]/)
  })
}

test('every mutant changes the source: what it looks for stands there once, and the result is a program', () => {
  for (const { name, replacements } of MUTANTS) {
    const changed = new Map<string, string>()
    for (const { file, find, replace } of replacements) {
      const source = changed.get(file) ?? readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
      assert.equal(source.split(find).length - 1, 1, `${name}: ${file} has ${find}`)
      changed.set(
        file,
        source.replace(find, () => replace),
      )
    }
    for (const [file, source] of changed) {
      if (file.endsWith('.ts')) assert.doesNotThrow(() => transformSync(source, { loader: 'ts' }), `${name}: ${file}`)
    }
  }
})

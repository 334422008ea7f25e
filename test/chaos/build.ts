import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { path } from '../helpers/processes.ts'

export interface Replacement {
  file: string
  /** Must be there exactly once. */
  find: string
  replace: string
}

/**
 * Bundles the programs of a run, so that what is judged is one state of the sources and a node is back within a few
 * hundred milliseconds. With replacements: of a copy of the sources in which they were made.
 */
export async function buildPrograms(replacements: readonly Replacement[] = []): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'push-chaos-programs-'))
  const root = replacements.length > 0 ? copySources(folder, replacements) : path('')
  const output = join(folder, 'out')
  await build({
    entryPoints: ['node', 'clients', 'publishers'].map(name => join(root, 'test/chaos', `${name}.ts`)),
    outdir: output,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    logLevel: 'error',
  })
  writeFileSync(join(output, 'package.json'), '{"type":"module"}')
  cpSync(join(root, 'src/broker/redis/push.lua'), join(output, 'push.lua'))
  symlinkSync(path('node_modules'), join(output, 'node_modules'))
  return output
}

export function forgetPrograms(output: string): void {
  rmSync(join(output, '..'), { recursive: true, force: true })
}

function copySources(folder: string, replacements: readonly Replacement[]): string {
  const root = join(folder, 'copy')
  for (const name of ['src', 'test/chaos', 'test/helpers', 'package.json', 'tsconfig.json']) {
    cpSync(path(name), join(root, name), { recursive: true })
  }
  symlinkSync(path('node_modules'), join(root, 'node_modules'))
  for (const replacement of replacements) apply(root, replacement)
  return root
}

function apply(root: string, { file, find, replace }: Replacement): void {
  const name = join(root, file)
  const text = readFileSync(name, 'utf8')
  const times = text.split(find).length - 1
  if (times !== 1) throw new Error(`${file} has ${times} times, not once:\n${find}`)
  writeFileSync(
    name,
    text.replace(find, () => replace),
  )
}

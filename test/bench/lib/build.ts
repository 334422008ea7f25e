import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import type { Peer } from './peers.ts'

const BENCH = fileURLToPath(new URL('..', import.meta.url))
const ROOT = join(BENCH, '../..')
/** Below node_modules, so that it is ignored by git and finds the peers' packages. */
export const CACHE = join(BENCH, 'node_modules/.cache/bench')

export function installPeers(): void {
  if (existsSync(join(BENCH, 'node_modules/socket.io'))) return
  console.log('npm ci in test/bench')
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: BENCH, stdio: 'inherit' })
}

/** Its scripts would build it; the package has what they make. */
export function installOptional(peers: readonly Peer[]): void {
  const missing = peers.flatMap(({ optional }) => (optional && !isInstalled(optional) ? optional : []))
  if (missing.length === 0) return
  const args = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', ...missing]
  execFileSync('npm', args, { cwd: BENCH, stdio: 'inherit' })
}

function isInstalled(spec: string): boolean {
  return existsSync(join(BENCH, 'node_modules', spec.slice(0, spec.lastIndexOf('@'))))
}

/** Every process under test runs plain JavaScript: a loader in it would cost memory and start a thread of its own. */
export async function compile(): Promise<void> {
  const peers = readdirSync(join(BENCH, 'peers')).map(file => join(BENCH, 'peers', file))
  const scale = ['node', 'topics-node', 'publisher'].map(name => join(BENCH, `scale/${name}.ts`))
  await build({
    entryPoints: [...peers, ...scale, join(BENCH, 'load.ts'), join(BENCH, 'publisher.ts')],
    outdir: CACHE,
    outbase: BENCH,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
  })
}

export interface Entry {
  url: string
  nodeArgs: string[]
  /** for the report */
  name: string
}

/** The built plugin if it is there and no source is newer, else the source through tsx. */
export function ourEntry(): Entry {
  const built = join(ROOT, 'dist/index.js')
  const sources = join(ROOT, 'src')
  if (existsSync(built)) {
    const builtAt = statSync(built).mtimeMs
    const newer = readdirSync(sources, { recursive: true, withFileTypes: true }).filter(
      file => file.isFile() && statSync(join(file.parentPath, file.name)).mtimeMs > builtAt,
    )
    if (newer.length === 0) return { url: pathToFileURL(built).href, nodeArgs: [], name: 'dist/index.js' }
    console.log(`dist is older than src/${newer[0]!.name}: running the source through tsx`)
  }
  const tsx = import.meta.resolve('tsx')
  return { url: pathToFileURL(join(sources, 'index.ts')).href, nodeArgs: ['--import', tsx], name: 'src/index.ts (tsx)' }
}

export function ourEntryExists(): boolean {
  return existsSync(join(ROOT, 'dist/index.js')) || existsSync(join(ROOT, 'src/index.ts'))
}

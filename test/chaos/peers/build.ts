import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { path } from '../../helpers/processes.ts'

/** Which programs a peer consists of. */
const PEERS = {
  ours: { node: '../node.ts', clients: 'client-ours.ts' },
  plain: { node: 'node-plain.ts', clients: 'client-plain.ts' },
  'socketio-redis': { node: 'node-socketio-redis.ts', clients: 'client-socketio.ts' },
  'socketio-streams': { node: 'node-socketio-streams.ts', clients: 'client-socketio.ts' },
}

export type Peer = keyof typeof PEERS

export const PEER_NAMES = Object.keys(PEERS) as Peer[]

/** Bundles the programs of all peers, a folder for each, with the names that a `World` starts. */
export async function buildPeers(): Promise<string> {
  const output = mkdtempSync(join(tmpdir(), 'push-chaos-peers-'))
  for (const peer of PEER_NAMES) await buildPeer(peer, join(output, peer))
  writeFileSync(join(output, 'package.json'), '{"type":"module"}')
  symlinkSync(path('node_modules'), join(output, 'node_modules'))
  return output
}

async function buildPeer(peer: Peer, folder: string): Promise<void> {
  const here = (name: string) => path(`test/chaos/peers/${name}`)
  const { node, clients } = PEERS[peer]
  mkdirSync(folder)
  await build({
    entryPoints: { node: here(node), clients: here(clients), publishers: here('publishers.ts') },
    outdir: folder,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    logLevel: 'error',
  })
  cpSync(path('src/broker/redis/push.lua'), join(folder, 'push.lua'))
  // Ours has nothing of the peers' to resolve, and must not find their copies.
  if (peer !== 'ours') symlinkSync(here('node_modules'), join(folder, 'node_modules'))
}

export function forgetPeers(output: string): void {
  rmSync(output, { recursive: true, force: true })
}

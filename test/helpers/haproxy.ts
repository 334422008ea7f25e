import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Cleanup, Program, path, run, temporaryFolder } from './processes.ts'
import { findProgram } from './programs.ts'
import { freePort } from './redis.ts'
import { START, until } from './waiting.ts'

export interface HaProxy {
  readonly origin: string
  readonly url: string
  /** What it prints: which servers are up and down, and why. */
  readonly program: Program
}

/** Runs HAProxy with `example/haproxy/haproxy.cfg` on another port, in front of these nodes. */
export async function startHaProxy(t: Cleanup, nodes: readonly number[]): Promise<HaProxy> {
  const port = await freePort()
  let text = replace(readFileSync(path('example/haproxy/haproxy.cfg'), 'utf8'), 'bind :80', `bind 127.0.0.1:${port}`)
  // Whoever runs the tests may not raise the limit of descriptors.
  text = replace(text, 'maxconn 50000', 'maxconn 1000')
  for (const [index, node] of nodes.entries()) text = replace(text, `127.0.0.1:300${index + 1}`, `127.0.0.1:${node}`)
  const file = join(temporaryFolder(t), 'haproxy.cfg')
  writeFileSync(file, text)
  const haproxy = findProgram('haproxy')!
  const { code, stdout, stderr } = await run(haproxy, ['-c', '-f', file])
  if (code !== 0 || /WARNING/.test(stderr)) throw new Error(`haproxy -c: ${stdout}${stderr}`)
  // In the foreground; -V to print which servers change.
  const program = new Program(t, haproxy, ['-db', '-V', '-f', file])
  const origin = `http://127.0.0.1:${port}`
  const isUp = () => {
    if (program.process.exitCode !== null) throw new Error(`HAProxy ended: ${program.lines.join('\n')}`)
    return fetch(`${origin}/livez`).then(
      ({ ok }) => ok,
      () => false,
    )
  }
  await until(isUp, () => `HAProxy: ${program.lines.join('\n')}`, START)
  return { origin, url: `ws://127.0.0.1:${port}/ws`, program }
}

function replace(conf: string, from: string, to: string): string {
  if (!conf.includes(from)) throw new Error(`example/haproxy/haproxy.cfg does not hold ${JSON.stringify(from)}`)
  return conf.replace(from, to)
}

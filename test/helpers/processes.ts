import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { once, PATIENCE, START, within } from './waiting.ts'

export interface Cleanup {
  after(hook: () => unknown): void
}

export const API_KEY = 'key-of-the-interop-tests'

/** A path of the repository. */
export const path = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url))

/** Hooks of a whole test file, run in reverse by `end`: what was started last ends first, and one that fails stops none. */
export function cleanups(): Cleanup & { end(): Promise<void> } {
  const hooks: (() => unknown)[] = []
  return {
    after: hook => void hooks.push(hook),
    async end() {
      const failures: unknown[] = []
      for (const hook of hooks.reverse())
        await Promise.resolve()
          .then(hook)
          .catch(error => failures.push(error))
      if (failures.length > 0) throw failures[0]
    },
  }
}

export function temporaryFolder(t: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'push-interop-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

type Environment = Record<string, string | undefined>

export interface Finished {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[] = [],
  { env = {}, input = '', cwd }: { env?: Environment; input?: string; cwd?: string } = {},
  milliseconds = 60_000,
): Promise<Finished> {
  const options: SpawnOptions = { env: { ...process.env, ...env }, stdio: 'pipe', ...(cwd !== undefined && { cwd }) }
  const child = spawn(command, args, options)
  let [stdout, stderr] = ['', '']
  child.stdout!.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr!.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  // A program that reads nothing may have ended by now.
  child.stdin!.on('error', () => {}).end(input)
  try {
    const [code] = await within(
      once(child, 'close', milliseconds + PATIENCE),
      () => `${command} ${args.join(' ')}\n${stdout}${stderr}`,
      milliseconds,
    )
    return { code, stdout, stderr }
  } finally {
    child.kill('SIGKILL')
  }
}

/** A program that runs until it is stopped, at the latest with the test. */
export class Program {
  /** Lines of stdout and stderr, as they came. */
  readonly lines: string[] = []
  readonly process: ChildProcess
  readonly exited: Promise<number | null>
  /** Behind the last line: the process may have exited while its lines are still in the pipe. */
  readonly #closed: Promise<number | null>
  readonly #waiting = new Set<(line: string) => void>()

  constructor(
    t: Cleanup,
    command: string,
    args: readonly string[],
    { env = {}, stopWith = 'SIGKILL' }: { env?: Environment; stopWith?: NodeJS.Signals } = {},
  ) {
    this.process = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    this.exited = new Promise(resolve => this.process.once('exit', resolve))
    this.#closed = new Promise(resolve => this.process.once('close', resolve))
    for (const input of [this.process.stdout!, this.process.stderr!]) {
      createInterface({ input }).on('line', line => {
        this.lines.push(line)
        for (const take of this.#waiting) take(line)
      })
    }
    t.after(() => this.stop(stopWith))
  }

  /** The first line that matches, among those that came and those that will. */
  async line(pattern: RegExp, milliseconds = PATIENCE): Promise<string> {
    const found = this.lines.find(line => pattern.test(line))
    if (found !== undefined) return found
    let take: (line: string) => void = () => {}
    const coming = new Promise<string>((resolve, reject) => {
      take = line => pattern.test(line) && resolve(line)
      this.#waiting.add(take)
      this.#closed.then(code => reject(new Error(`exited with ${code} before ${pattern}:\n${this.lines.join('\n')}`)))
    })
    try {
      return await within(coming, () => `a line like ${pattern}, only:\n${this.lines.join('\n')}`, milliseconds)
    } finally {
      this.#waiting.delete(take)
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    this.process.kill(signal)
    await within(this.exited, () => `the end of ${this.process.spawnargs.join(' ')} after ${signal}`)
  }
}

export interface Status {
  node: string
  nodes: number
  connections: number
  upgrades: Record<string, number>
  /** Requests for /readyz. */
  probes: number
  metrics: Record<string, number>
}

export interface InteropNode {
  readonly port: number
  readonly program: Program
  /** `http://127.0.0.1:PORT`. */
  readonly origin: string
  /** `ws://127.0.0.1:PORT/ws`. */
  readonly url: string
  status(): Promise<Status>
}

/** Starts `interop-node.ts`; its variables are described there. */
export async function startInteropNode(t: Cleanup, redisUrl: string, env: Environment = {}): Promise<InteropNode> {
  const variables = { REDIS_URL: redisUrl, PORT: '0', API_KEY, ...env }
  const program = new Program(t, process.execPath, ['--import', 'tsx', path('test/helpers/interop-node.ts')], {
    env: variables,
  })
  const { port } = JSON.parse(await program.line(/"port":\d+/, START)) as { port: number }
  const origin = `http://127.0.0.1:${port}`
  return {
    port,
    program,
    origin,
    url: `ws://127.0.0.1:${port}/ws`,
    status: async () => (await fetch(`${origin}/status`)).json() as Promise<Status>,
  }
}

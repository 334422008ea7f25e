import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { arch, cpus, release, totalmem } from 'node:os'

export interface Machine {
  cpu: string
  cores: number
  memoryGB: number
  kernel: string
  node: string
  redis: string
  openFiles: number
  /** which cores the server has, and which the load and Redis; undefined where nothing could be pinned */
  serverCpus: string | undefined
  loadCpus: string | undefined
}

export function describe(redis: string): Machine {
  const allowed = allowedCpus()
  const pin = allowed.length >= 2 && spawnSync('taskset', ['--version']).status === 0
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: allowed.length,
    memoryGB: Math.round(totalmem() / 2 ** 30),
    kernel: `${release()} ${arch()}`,
    node: process.version,
    redis,
    openFiles: openFiles(),
    serverCpus: pin ? String(allowed[0]) : undefined,
    loadCpus: pin ? allowed.slice(1).join(',') : undefined,
  }
}

/** The command that runs `command` on these cores only. */
export function pinned(cpus: string | undefined, command: string[]): string[] {
  return cpus === undefined ? command : ['taskset', '-c', cpus, ...command]
}

/** The orchestrator itself belongs to the load. */
export function pinSelf(cpus: string | undefined): void {
  if (cpus !== undefined) execFileSync('taskset', ['-a', '-p', '-c', cpus, String(process.pid)], { stdio: 'ignore' })
}

function allowedCpus(): number[] {
  try {
    const list = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? ''
    return list.split(',').flatMap(range => {
      const [first = 0, last = first] = range.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, index) => first + index)
    })
  } catch {
    return cpus().map((_, index) => index)
  }
}

/** Node raises its soft limit to the hard one by itself: the hard one is what counts. */
function openFiles(): number {
  const limit = spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout?.trim()
  return limit === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(limit) || 1024
}

/** Nanoseconds on a core, summed over the threads of a process. Linux only: elsewhere the CPU columns are empty. */
export function cpuSeconds(pid: number): number {
  try {
    const tasks = `/proc/${pid}/task`
    const spent = readdirSync(tasks).map(task =>
      Number(readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ')[0]),
    )
    return spent.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e9
  } catch {
    return Number.NaN
  }
}

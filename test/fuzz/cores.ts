import { spawnSync } from 'node:child_process'

/** The cores on which a process may run, or none if that cannot be asked here. */
function coresOf(pid: number): number[] {
  const { status, stdout } = spawnSync('taskset', ['-cp', `${pid}`], { encoding: 'utf8' })
  const [, list] = (status === 0 && /: ([\d,-]+)\s*$/.exec(stdout)) || []
  if (!list) return []
  return list.split(',').flatMap(range => {
    const [first, last = first] = range.split('-').map(Number) as [number, number?]
    return Array.from({ length: last! - first + 1 }, (_, i) => first + i)
  })
}

/** With all threads that the process has by now. */
const pin = (pid: number, cores: readonly number[]) =>
  spawnSync('taskset', ['-acp', cores.join(), `${pid}`]).status === 0

/** The cores that this process has at its beginning. */
const CORES = coresOf(process.pid)

/**
 * Gives this process a core of its own and leaves the others to `pids`, so that they wait for each other no longer than
 * programs on two machines would. False where there is one core, or no taskset.
 */
export function keepApart(pids: readonly number[]): boolean {
  if (CORES.length < 2) return false
  const others = CORES.slice(0, -1)
  return [pin(process.pid, CORES.slice(-1)), ...pids.map(pid => pin(pid, others))].every(Boolean)
}

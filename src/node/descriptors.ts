import { readFileSync } from 'node:fs'

/** Listening sockets, links to Redis, files and pipes need some as well. */
const SPARE = 100

/** How many descriptors this process may open; undefined where that is not known. */
export function maxDescriptors(file = '/proc/self/limits'): number | undefined {
  try {
    return parseLimits(readFileSync(file, 'utf8'))
  } catch {
    // Only Linux has the file.
    return undefined
  }
}

export function parseLimits(text: string): number | undefined {
  const [, soft] = /^Max open files\s+(\d+|unlimited)\s/m.exec(text) ?? []
  return soft === undefined || soft === 'unlimited' ? undefined : Number(soft)
}

/** What to say to somebody who would run out of descriptors before `connections` are there; undefined if nobody would. */
export function descriptorProblem(connections: number, descriptors = maxDescriptors()): string | undefined {
  if (descriptors === undefined || descriptors >= connections + SPARE) return undefined
  return (
    `this process may open ${descriptors} descriptors, too few for limits.connections (${connections}): ` +
    `allow it ${connections + SPARE} with LimitNOFILE= (systemd) or ulimit -n, or lower limits.connections`
  )
}

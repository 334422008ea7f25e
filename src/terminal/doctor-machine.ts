import { readFileSync } from 'node:fs'
import { descriptorProblem, maxDescriptors } from '../node/descriptors.ts'
import { type Finding, hint, mend, ok } from './findings.ts'

const PORTS = '/proc/sys/net/ipv4/ip_local_port_range'
const OLDEST_NODE = [20, 19] as const

/** What this machine lets a process do. `connections`: how many are wanted; undefined if nobody said. */
export function machineFindings(connections: number | undefined): Finding[] {
  return [nodeVersion(process.versions.node), descriptorsFor(connections), ...portsFor(connections, read(PORTS))]
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // Only Linux has the file.
    return undefined
  }
}

export function nodeVersion(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isNew = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])
  const found = `Node ${version}`
  return isNew
    ? ok('node', found)
    : mend('node', `${found} is too old`, `install Node ${OLDEST_NODE.join('.')} or later`)
}

/** A process that is started by systemd has limits of its own: whoever names no number is only told. */
export function descriptorsFor(connections: number | undefined, descriptors = maxDescriptors()): Finding {
  const about = 'descriptors'
  if (descriptors === undefined) return ok(about, 'no limit is known')
  const found = `a process that is started here may open ${descriptors}`
  const needed = connections ?? 50_000
  if (descriptorProblem(needed, descriptors) === undefined) return ok(about, found)
  const line = `LimitNOFILE=${needed + 100} in the unit of systemd, or ulimit -n ${needed + 100}`
  const few = `${found}, too few for ${needed} connections`
  return connections === undefined ? hint(about, few, line) : mend(about, few, line)
}

/** A proxy on this machine needs a port for each connection to a node. */
export function portsFor(connections: number | undefined, range: string | undefined): Finding[] {
  const [first, last] = (range ?? '').trim().split(/\s+/).map(Number)
  if (first === undefined || last === undefined || !(last > first)) return []
  const ports = last - first + 1
  const found = `a proxy here can have ${ports} connections to each address of a node`
  if (connections === undefined || connections <= ports) return [ok('ports', found)]
  const line = 'sysctl -w net.ipv4.ip_local_port_range="1024 65535", or several ports of nodes in the upstream'
  return [mend('ports', `${found}, too few for ${connections}`, line)]
}

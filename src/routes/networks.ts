import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** Whatever a proxy writes that is no address counts together. */
const UNKNOWN = 'unknown'

/** What is counted as one address: an IPv4 address, or the /64 of an IPv6 address, all of which one customer has. */
export function networkOf(text: string): string {
  const address = withoutPort(text)
  if (isIPv4(address)) return address
  if (!isIPv6(address)) return UNKNOWN
  const groups = groupsOf(address)
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff) return dotted(groups[6]!, groups[7]!)
  return `${groups
    .slice(0, 4)
    .map(group => group.toString(16))
    .join(':')}::/64`
}

/** Some proxies add the port: `192.0.2.1:5000`, `[2001:db8::1]:5000`. */
function withoutPort(text: string): string {
  const [, bracketed] = /^\[([^\]]+)\](?::\d+)?$/.exec(text) ?? []
  return bracketed ?? text.replace(/^([\d.]+):\d+$/, '$1')
}

/** The eight groups of a valid IPv6 address. */
function groupsOf(address: string): number[] {
  const [bare] = address.split('%', 1)
  const [head = '', tail] = bare!.split('::')
  const [left, right] = [parse(head), parse(tail ?? '')]
  return tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill(0), ...right]
}

function parse(part: string): number[] {
  if (part === '') return []
  return part.split(':').flatMap(group => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a, b, c, d] = group.split('.').map(Number) as [number, number, number, number]
    return [a * 256 + b, c * 256 + d]
  })
}

function dotted(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** That of ::1. Not in the list below: a BlockList takes IPv4 addresses for parts of ::/64. */
const LOOPBACK = '0:0:0:0::/64'

const NEAR = new BlockList()
for (const [network, prefix] of [
  ['127.0.0.0', 8],
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['169.254.0.0', 16],
  ['100.64.0.0', 10],
] as const) {
  NEAR.addSubnet(network, prefix)
}
NEAR.addSubnet('fc00::', 7, 'ipv6')
NEAR.addSubnet('fe80::', 10, 'ipv6')

/** Of this machine or a private network: nobody on the internet has such an address. `network`: from `networkOf`. */
export function isNear(network: string): boolean {
  if (network === UNKNOWN || network === LOOPBACK) return network === LOOPBACK
  return network.endsWith('/64') ? NEAR.check(network.slice(0, -3), 'ipv6') : NEAR.check(network)
}

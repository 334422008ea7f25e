import calculateSlot from 'cluster-key-slot'

/** A master of a Cluster, and the hash slots that it has. */
export interface MasterAddress {
  /** The name that the node has in the Cluster. */
  id: string
  host: string
  port: number
  slots: readonly [first: number, last: number][]
}

export const SLOTS = 16_384

/** The hash slot of a key or a channel. Everything about a topic is in the slot of its channel. */
export function slotOf(key: string): number {
  return calculateSlot(key)
}

export function hasSlot({ slots }: Pick<MasterAddress, 'slots'>, slot: number): boolean {
  return slots.some(([first, last]) => first <= slot && slot <= last)
}

/** How many slots both have: a replica that was promoted has those of its master. */
export function sharedSlots(a: Pick<MasterAddress, 'slots'>, b: Pick<MasterAddress, 'slots'>): number {
  let shared = 0
  for (const [first, last] of a.slots) {
    for (const [from, to] of b.slots) shared += Math.max(0, Math.min(last, to) - Math.max(first, from) + 1)
  }
  return shared
}

/**
 * The masters in a reply to CLUSTER SLOTS: `[first, last, [host, port, id], replicas…]` for each range. A server that does
 * not know its own address says null or '': then it is that of the one who was asked.
 */
export function mastersIn(reply: unknown, asked: { host: string }): MasterAddress[] {
  if (!Array.isArray(reply) || !reply.every(isRange)) return []
  const masters = new Map<string, MasterAddress & { slots: [number, number][] }>()
  for (const [first, last, [host, port, id]] of reply) {
    const master = masters.get(id) ?? { id, host: host || asked.host, port, slots: [] }
    master.slots.push([first, last])
    masters.set(id, master)
  }
  return [...masters.values()]
}

type Range = [first: number, last: number, master: [host: string | null, port: number, id: string]]

/** A reply with anything else in it is not believed: the Cluster is looked at again. */
function isRange(value: unknown): value is Range {
  if (!Array.isArray(value)) return false
  const [first, last, master] = value
  if (!Array.isArray(master) || !isWithin(first, 0, SLOTS - 1) || !isWithin(last, first, SLOTS - 1)) return false
  const [host, port, id] = master
  return (host === null || typeof host === 'string') && isWithin(port, 0, 65_535) && typeof id === 'string' && id !== ''
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most
}

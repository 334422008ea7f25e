const POLYNOMIAL = 0x1021
const SLOTS = 16_384
/** Masters of the Cluster of a run, when it begins. */
export const SHARDS = 3
/** Milliseconds without an answer after which the other masters take one for dead. */
export const NODE_TIMEOUT = 1500

/** The hash slot of a key (CRC16 as Redis Cluster has it), by code that the nodes do not use. */
export function slotOf(key: string): number {
  const tag = /\{([^}]+)\}/.exec(key)?.[1] ?? key
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ POLYNOMIAL : crc << 1) & 0xffff
  }
  return crc % SLOTS
}

/** Where a key is until its slot moves: each master begins with an equal share. */
export function firstHomeOf(key: string): number {
  return Math.floor(((slotOf(key) + 1) * SHARDS - 1) / SLOTS)
}

import { randomFillSync } from 'node:crypto'

const ID_BYTES = 15

/** Asking the system for random bytes costs the same for a hundred ids as for one. */
const pool = Buffer.allocUnsafeSlow(ID_BYTES * 100)
let used = pool.length

/** 120 random bits, which nobody can guess, in 20 characters. */
export function newConnectionId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += ID_BYTES
  return pool.toString('base64url', used - ID_BYTES, used)
}

import type { FastifyRequest } from 'fastify'
import { TokenBucket } from '../node/token-bucket.ts'
import type { Options } from '../options/options.ts'
import { errors, type PushError } from '../protocol/errors.ts'
import { isNear, networkOf } from './networks.ts'

/** What an address has and does. */
export interface Address {
  connections: number
  readonly upgrades: TokenBucket
}

/** So many addresses without a connection are remembered at most: somebody may have very many. */
const MAX_IDLE = 10_000

/** After so many new addresses those that need not be remembered are forgotten. */
const SWEEP_AFTER = 5000

/**
 * Whose upgrades are counted together. Undefined for a peer on this machine or a private network: it is a proxy that
 * `trustProxy` does not look behind, so that everybody would be one address.
 */
export function addressOf({ ip, ips }: Pick<FastifyRequest, 'ip' | 'ips'>): string | undefined {
  const last = ips?.at(-1) ?? (ip as string | undefined)
  // A socket in the file system has none.
  if (last === undefined) return undefined
  const address = networkOf(last)
  const isPeer = (ips?.length ?? 1) < 2
  return isPeer && isNear(address) ? undefined : address
}

/** Counts connections and upgrades of each address. */
export class Addresses {
  readonly #limits: Pick<Options['limits'], 'addressConnections' | 'addressUpgrades'>
  readonly #known = new Map<string, Address>()
  #sweepAt = SWEEP_AFTER

  constructor(limits: Pick<Options['limits'], 'addressConnections' | 'addressUpgrades'>) {
    this.#limits = limits
  }

  get size(): number {
    return this.#known.size
  }

  /** Counts an upgrade. Why there may be no further one; undefined when there may. */
  enter(name: string): PushError | undefined {
    const { addressUpgrades } = this.#limits
    if (!this.#of(name).upgrades.take()) {
      return new errors.ADDRESS_UPGRADES(
        `more than ${addressUpgrades} upgrades a second from this address (limits.addressUpgrades)`,
      )
    }
    return this.fullness(name)
  }

  /** Why the address may have no further connection; undefined when it may. */
  fullness(name: string): PushError | undefined {
    const { addressConnections } = this.#limits
    if ((this.#known.get(name)?.connections ?? 0) < addressConnections) return undefined
    return new errors.ADDRESS_CONNECTIONS(
      `this address already has ${addressConnections} connections (limits.addressConnections)`,
    )
  }

  /** Counts a connection. Whoever holds it gives back what this returns: `connections--`. */
  hold(name: string): Address {
    const address = this.#of(name)
    address.connections++
    return address
  }

  #of(name: string): Address {
    let address = this.#known.get(name)
    if (!address) {
      if (this.#known.size >= this.#sweepAt) this.#sweep(performance.now())
      address = { connections: 0, upgrades: new TokenBucket(this.#limits.addressUpgrades) }
      this.#known.set(name, address)
    }
    return address
  }

  /** Forgets addresses of which nothing is to be remembered, and the oldest of those that have no connection. */
  #sweep(now: number): void {
    const idle: string[] = []
    for (const [name, { connections, upgrades }] of this.#known) {
      if (connections > 0) continue
      if (upgrades.isFull(now)) this.#known.delete(name)
      else idle.push(name)
    }
    for (const name of idle.slice(0, Math.max(0, idle.length - MAX_IDLE))) this.#known.delete(name)
    this.#sweepAt = this.#known.size + SWEEP_AFTER
  }
}

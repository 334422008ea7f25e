import type { Broker } from '../broker/broker.ts'

export type State = 'ok' | 'starting' | 'degraded' | 'draining'

/** The part of the hub that says how the node is. */
export interface WatchedNode {
  readonly isDraining: boolean
  readonly broker: Pick<Broker, 'connected'>
}

/**
 * Whether this node should get new clients. Without Redis it should, once it has started: its clients are told what they
 * miss, and if every node refused at the same time, nobody could connect at all.
 */
export class Health {
  readonly #hub: WatchedNode
  readonly #startsUntil: number
  #hasStarted: boolean

  /** `start`: for how many milliseconds from now it may be starting. */
  constructor(hub: WatchedNode, start: number, now = performance.now()) {
    this.#hub = hub
    this.#startsUntil = now + start
    this.#hasStarted = hub.broker.connected
  }

  state(now = performance.now()): State {
    const { isDraining, broker } = this.#hub
    this.#hasStarted ||= broker.connected || now >= this.#startsUntil
    if (isDraining) return 'draining'
    if (!this.#hasStarted) return 'starting'
    return broker.connected ? 'ok' : 'degraded'
  }
}

/** `isStrict`: a node without Redis is not ready either. */
export function isReady(state: State, isStrict: boolean): boolean {
  return state === 'ok' || (state === 'degraded' && !isStrict)
}

import { setTimeout as sleep } from 'node:timers/promises'
import { isPushError } from '../protocol/errors.ts'

/** Milliseconds between two attempts. */
export const RETRY = 200

const TRANSIENT = new Set(['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED', 'PUSH_ERR_BUSY'])
const TRANSIENT_REPLY =
  /^(LOADING|READONLY|MASTERDOWN|BUSY|TRYAGAIN|OOM|NOREPLICAS|MISCONF|MOVED|ASK|CLUSTERDOWN)|non local key/

/** Whether a retry may help: Redis is away, did not answer in time or is not ready. */
export function isTransient(error: unknown): boolean {
  if (!isPushError(error) || !TRANSIENT.has(error.code)) return false
  const { cause } = error
  return !(cause instanceof Error && cause.name === 'ReplyError') || TRANSIENT_REPLY.test(cause.message)
}

/**
 * Asks until the broker answers. Undefined if nobody wants the answer any more. Throws errors that a retry cannot fix.
 */
export async function retrying<T>(isWanted: () => boolean, ask: () => Promise<T>): Promise<T | undefined> {
  while (isWanted()) {
    try {
      return await ask()
    } catch (error) {
      if (!isTransient(error)) throw error
      await sleep(RETRY, undefined, { ref: false })
    }
  }
  return undefined
}

interface Patience {
  /**
   * Whether to wait once more because the delay is not the fault of the other side. Asked at the end of each period.
   */
  unless(): boolean
  /** How many periods to wait at most. */
  times: number
}

const NO_PATIENCE: Patience = { unless: () => false, times: 1 }

/** What `result` resolves with; undefined if it rejects or does not resolve in time. */
export function within<T>(
  milliseconds: number,
  result: Promise<T>,
  { unless, times }: Patience = NO_PATIENCE,
): Promise<T | undefined> {
  return new Promise(resolve => {
    let timer: NodeJS.Timeout
    let isSettled = false
    const settle = (value: T | undefined) => {
      isSettled = true
      clearTimeout(timer)
      resolve(value)
    }
    const wait = (left: number) => {
      const look = () => {
        if (isSettled) return
        if (left > 1 && unless()) wait(left - 1)
        else settle(undefined)
      }
      // After the poll phase: if this process was busy itself, the answer is read there.
      timer = setTimeout(() => setImmediate(look), milliseconds)
    }
    wait(times)
    result.then(settle, () => settle(undefined))
  })
}

import { setTimeout as sleep } from 'node:timers/promises'
import { isPushError } from '../protocol/errors.ts'

/** Between two attempts, in milliseconds. */
export const RETRY = 200

const TRANSIENT = new Set(['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED', 'PUSH_ERR_BUSY'])
const TRANSIENT_REPLY = /^(LOADING|READONLY|MASTERDOWN|BUSY|TRYAGAIN|OOM|NOREPLICAS|MISCONF)/

/** Redis is away, did not answer in time or is not ready: asking again may help. */
export function isTransient(error: unknown): boolean {
  if (!isPushError(error) || !TRANSIENT.has(error.code)) return false
  const { cause } = error
  return !(cause instanceof Error && cause.name === 'ReplyError') || TRANSIENT_REPLY.test(cause.message)
}

/** Asks until the broker answers; undefined when nobody wants to know any more. What will not get better is thrown. */
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
  /** Whether it is not the fault of who is waited for. */
  unless(): boolean
  /** It is asked before each further time of the same length; so many there may be in all. */
  times: number
}

const NO_PATIENCE: Patience = { unless: () => false, times: 1 }

/** What `result` resolves with; undefined when it does not in time, or rejects. */
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
      // After the poll phase: a process that was busy itself finds the answer there.
      timer = setTimeout(() => setImmediate(look), milliseconds)
    }
    wait(times)
    result.then(settle, () => settle(undefined))
  })
}

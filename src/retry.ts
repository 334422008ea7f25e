import { setTimeout as sleep } from 'node:timers/promises'
import { isPushError } from './errors.ts'

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

import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker } from '../broker/broker.ts'
import { errors } from '../protocol/errors.ts'
import { CLOSE } from '../protocol/messages.ts'
import { topicKind, topicProblem } from '../protocol/topic.ts'
import type { Publisher } from './publish.ts'
import type { PublishResult } from './result.ts'

/** The reason of the close that follows a revocation. */
export const REVOKED = 'revoked'

/** What it takes to revoke users. */
export interface RevocationParts {
  publisher: Publisher
  broker: Pick<Broker, 'putRevocation'>
  /** Seconds. */
  ttl: number
}

/**
 * Closes all connections of a user, on every node, and keeps out what was issued before. Marked first: a node that does
 * not hear of it, or is just opening a connection, finds the mark.
 */
export async function revoke(target: string, { publisher, broker, ttl }: RevocationParts): Promise<PublishResult> {
  const problem = topicProblem(target)
  if (problem || topicKind(target as never) !== 'user') {
    throw new errors.TOPIC(problem ?? `${target} is not a user: only user:ID can be revoked`)
  }
  await broker.putRevocation(target.slice('user:'.length), Date.now(), ttl)
  // What is issued after this call must be newer than the mark, also on this machine.
  const [result] = await Promise.all([
    publisher.command(target, { kind: 'close', code: CLOSE.UNAUTHENTICATED, reason: REVOKED }),
    sleep(CLOCK_STEP),
  ])
  return result
}

/** Two readings of the clock that are so many milliseconds apart differ. */
const CLOCK_STEP = 2

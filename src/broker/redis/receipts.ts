import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeAnswer } from '../broker.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'

/** Seconds for which the answers of the nodes can be read, for example by BLPOP in a PHP script. */
export const RECEIPT_TTL = 60

/**
 * Nodes answer within a few milliseconds. Polling costs a command each time; a blocking BLPOP would need a connection.
 */
const FIRST_WAIT = 1
const LONGEST_WAIT = 50
const READ_TIMEOUT = 2000
const LATE: unknown[] = []

/** The commands with which a node answers the receipt of an envelope. */
export function answerCommands(names: Names, token: string, answer: NodeAnswer): Command[] {
  const key = names.receipt(token)
  return [
    ['RPUSH', key, JSON.stringify(answer)],
    ['EXPIRE', key, RECEIPT_TTL],
  ]
}

/** The answers of `expected` nodes, or those that have come by `deadline`. */
export async function collectAnswers(
  masters: Masters,
  names: Names,
  token: string,
  expected: number,
  deadline: number,
): Promise<NodeAnswer[]> {
  const key = names.receipt(token)
  let answers: NodeAnswer[] = []
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    const left = deadline - performance.now()
    if (answers.length >= expected || left <= 0) return answers
    await sleep(Math.min(wait, left))
    const [reply] = await Promise.race([
      // With its own timeout: if a reply is too late for one receipt, the link must not be closed for that.
      masters.run(key, [['LRANGE', key, 0, -1]], READ_TIMEOUT),
      sleep(Math.max(left - wait, 0), LATE, { ref: false }),
    ])
    if (!Array.isArray(reply)) return answers
    answers = reply.flatMap(parseAnswer)
  }
}

/** Any program can write to the list: whatever is not an answer is ignored. */
function parseAnswer(text: unknown): NodeAnswer[] {
  try {
    const answer = JSON.parse(String(text)) as NodeAnswer
    const isAnswer = typeof answer?.node === 'string' && Number.isInteger(answer.delivered + answer.skipped)
    return isAnswer ? [answer] : []
  } catch {
    return []
  }
}

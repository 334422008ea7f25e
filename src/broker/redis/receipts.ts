import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeAnswer } from '../broker.ts'
import type { Command, CommandLink } from './commands.ts'
import type { Names } from './names.ts'

/** Seconds that the answers of the nodes can be read, by BLPOP in a PHP script for example. */
export const RECEIPT_TTL = 60

/** Nodes answer within a few milliseconds. Looking again costs one command, a blocking BLPOP would cost a connection. */
const FIRST_LOOK = 1
const SLOWEST_LOOK = 50
const LOOK_TIMEOUT = 2000
const LATE: unknown[] = []

/** What a node writes when it has dealt with an envelope that carried a token. */
export function answerCommands(names: Names, token: string, answer: NodeAnswer): Command[] {
  const key = names.receipt(token)
  return [
    ['RPUSH', key, JSON.stringify(answer)],
    ['EXPIRE', key, RECEIPT_TTL],
  ]
}

/** The answers of `expected` nodes, or those that were there by `deadline`. */
export async function collectAnswers(
  commands: CommandLink,
  names: Names,
  token: string,
  expected: number,
  deadline: number,
): Promise<NodeAnswer[]> {
  let answers: NodeAnswer[] = []
  for (let wait = FIRST_LOOK; ; wait = Math.min(wait * 2, SLOWEST_LOOK)) {
    const left = deadline - performance.now()
    if (answers.length >= expected || left <= 0) return answers
    await sleep(Math.min(wait, left))
    const [reply] = await Promise.race([
      look(commands, names.receipt(token)),
      sleep(Math.max(left - wait, 0), LATE, { ref: false }),
    ])
    if (!Array.isArray(reply)) return answers
    answers = reply.flatMap(parseAnswer)
  }
}

/** A look that comes too late for one receipt says nothing of the link, so it has a deadline of its own. */
function look(commands: CommandLink, key: string): Promise<unknown[]> {
  return commands.run([['LRANGE', key, 0, -1]], LOOK_TIMEOUT)
}

/** Any program can write to the list: what is no answer is left out. */
function parseAnswer(text: unknown): NodeAnswer[] {
  try {
    const answer = JSON.parse(String(text)) as NodeAnswer
    const isAnswer = typeof answer?.node === 'string' && Number.isInteger(answer.delivered + answer.skipped)
    return isAnswer ? [answer] : []
  } catch {
    return []
  }
}

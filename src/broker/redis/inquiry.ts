import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { errors, isPushError } from '../../protocol/errors.ts'
import { positionOf } from '../../protocol/position.ts'
import { encodeQuestion, type Question } from '../../protocol/question.ts'
import type { Topic } from '../../protocol/topic.ts'
import {
  ANSWER_TIME,
  type Answer,
  type Asked,
  type Inquiry,
  MAX_ANSWER_BYTES,
  type NotedRejection,
  type RecordedTopic,
} from '../inquiry.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'
import { keysOfTopic } from './names.ts'

/** The process that asks, if it is a node: it answers for itself, also while Redis is away. */
export interface AskingNode {
  node: string
  answers(question: Question): unknown[]
  expect(token: string): void
  forget(token: string): void
}

/** Redis may take this long before its link is given up: a question is no reason to do so earlier than others do. */
const COMMAND_TIMEOUT = 2000

const FIRST_WAIT = 1
const LONGEST_WAIT = 50

/** Answers read at once, and at most: so many nodes there are not. */
const PAGE = 100
const MAX_NODES = 1000

const MAX_NOTES = 10
const MAX_TEXT = 300

/** Asks all nodes over the channel to which every node is subscribed. Each appends its answer to a list. */
export class RedisInquiry implements Inquiry {
  readonly #masters: Masters
  readonly #names: Names
  readonly #self: AskingNode | undefined

  constructor(masters: Masters, names: Names, self?: AskingNode) {
    this.#masters = masters
    this.#names = names
    this.#self = self
  }

  async ask(question: Question): Promise<Asked> {
    const self = this.#self
    const own = self ? self.answers(question).map(answer => ({ node: self.node, answer })) : []
    const token = randomBytes(16).toString('base64url')
    self?.expect(token)
    try {
      const { answers, ...about } = await this.#askOthers(question, token)
      return { ...about, answers: [...own, ...answers.filter(({ node }) => node !== self?.node)] }
    } finally {
      self?.forget(token)
    }
  }

  async #askOthers(question: Question, token: string): Promise<Asked> {
    const deadline = performance.now() + ANSWER_TIME
    const { nodes: channel } = this.#names
    const commands: Command[] = [
      ['PUBSUB', 'NUMSUB', channel],
      ['PUBLISH', channel, encodeQuestion(question, token)],
    ]
    const [listening, received] = await this.#run(channel, commands, deadline)
    if (isPushError(received)) {
      return { answers: [], expected: countIn(listening), complete: false, problem: received.message }
    }
    // PUBLISH also counts pattern subscribers, which never answer.
    const expected = Math.min(countIn(listening) ?? Number(received), Number(received))
    const byNode = await this.#collect(token, expected, deadline)
    const answers = [...byNode].flatMap(([node, list]) => list.map((answer): Answer => ({ node, answer })))
    return { answers, expected, complete: byNode.size >= expected }
  }

  /** The answers of each node that has answered by the deadline. */
  async #collect(token: string, expected: number, deadline: number): Promise<Map<string, unknown[]>> {
    const key = this.#names.answers(token)
    const byNode = new Map<string, unknown[]>()
    let read = 0
    for (let wait = FIRST_WAIT; byNode.size < expected && read < MAX_NODES; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      const left = deadline - performance.now()
      if (left <= 0) break
      await sleep(Math.min(wait, left))
      const [page] = await this.#run(key, [['LRANGE', key, read, read + PAGE - 1]], deadline)
      if (!Array.isArray(page)) break
      read += page.length
      for (const text of page) {
        const answer = parseAnswer(text)
        if (answer && !byNode.has(answer.node)) byNode.set(answer.node, answer.answers)
      }
    }
    return byNode
  }

  async recorded(topic: Topic): Promise<RecordedTopic | undefined> {
    const channel = this.#names.channel(topic)
    const [head, history] = keysOfTopic(channel) as [string, string]
    const commands: Command[] = [
      ['HMGET', head, 'id', 'seq'],
      ['XRANGE', history, '-', '+', 'COUNT', 1],
    ]
    const [known, first] = (await this.#run(channel, commands, performance.now() + ANSWER_TIME)).map(resultOf)
    const [id, seq] = known as [string | null, string | null]
    if (id === null || seq === null) return undefined
    const oldest = positionOf(oldestId(first))
    return { head: { id, seq: Number(seq) }, size: oldest ? Math.max(0, Number(seq) - oldest.seq + 1) : 0 }
  }

  async rejected(topic: Topic): Promise<NotedRejection[]> {
    const { rejected: key } = this.#names
    const [notes] = await this.#run(key, [['LRANGE', key, 0, -1]], performance.now() + ANSWER_TIME)
    return (resultOf(notes) as string[]).flatMap(text => noteOn(topic, text)).slice(0, MAX_NOTES)
  }

  /** One reply or PushError for each command, by the deadline. */
  async #run(key: string, commands: Command[], deadline: number): Promise<unknown[]> {
    const late = commands.map(() => new errors.UNCONFIRMED('Redis did not answer in time'))
    return Promise.race([
      this.#masters.run(key, commands, COMMAND_TIMEOUT),
      sleep(Math.max(0, deadline - performance.now()), late, { ref: false }),
    ])
  }
}

function resultOf(reply: unknown): unknown {
  if (isPushError(reply)) throw reply
  return reply
}

function countIn(listening: unknown): number | undefined {
  return Array.isArray(listening) ? Number(listening[1]) : undefined
}

/** Any program can write to the list: whatever is not an answer is ignored. */
function parseAnswer(text: unknown): { node: string; answers: unknown[] } | undefined {
  if (typeof text !== 'string' || text.length > MAX_ANSWER_BYTES) return undefined
  const value = parsed(text) as { node?: unknown; answers?: unknown } | undefined
  if (typeof value?.node !== 'string' || value.node.length > MAX_TEXT) return undefined
  return { node: value.node, answers: Array.isArray(value.answers) ? value.answers : [] }
}

/** The field `i` of the only entry. */
function oldestId(reply: unknown): string {
  const fields = (reply as [id: string, fields: string[]][])[0]?.[1] ?? []
  return fields[fields.indexOf('i') + 1] ?? ''
}

function noteOn(topic: Topic, text: string): NotedRejection[] {
  const note = parsed(text) as Record<string, unknown> | undefined
  if (note?.topic !== topic) return []
  const { node, reason, message } = note
  const at = Date.parse(String(note.time))
  if (!Number.isFinite(at)) return []
  const cut = (value: unknown) => String(value).slice(0, MAX_TEXT)
  return [{ at, node: cut(node), reason: cut(reason), message: cut(message) }]
}

function parsed(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

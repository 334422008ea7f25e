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
import { within } from '../waiting.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import { keysOfTopic, type Names } from './names.ts'

/** The process that asks, if it is a node: it answers for itself, also while Redis is away. */
export interface AskingNode {
  node: string
  answers(question: Question): unknown[]
  expect(token: string): void
  forget(token: string): void
  /** Why it is not connected, if that is known. */
  problem(): string | undefined
}

/** Redis may take this long before its link is given up: a question is no reason to do so earlier than others do. */
const COMMAND_TIMEOUT = 2000

const FIRST_WAIT = 1
const LONGEST_WAIT = 50

/** Answers read at once, and at most: so many nodes there are not. */
const PAGE = 20
const MAX_NODES = 1000
const MAX_BYTES = 32 * 1024 * 1024

/** Different questions that are asked at the same time. Each costs work on every node. */
const MAX_PENDING = 20

const MAX_NOTES = 10
const MAX_TEXT = 300

/** What one process has written. It may have several links with other users: then each of them answers. */
interface Line {
  node: string
  answers: unknown[]
  /** Why there are none. */
  refused: string | undefined
}

type Others = Omit<Asked, 'answers'> & { lines: readonly Line[] }

/** Asks all nodes over the channel to which every node is subscribed. Each appends its answer to a list. */
export class RedisInquiry implements Inquiry {
  readonly #masters: Masters
  readonly #names: Names
  readonly #self: AskingNode | undefined
  /** Who asks the same at the same time gets the same answers. */
  readonly #pending = new Map<string, Promise<Others>>()

  constructor(masters: Masters, names: Names, self?: AskingNode) {
    this.#masters = masters
    this.#names = names
    this.#self = self
  }

  async ask(question: Question): Promise<Asked> {
    const self = this.#self
    const own = self ? self.answers(question).map(answer => ({ node: self.node, answer })) : []
    const { lines, ...about } = await this.#shared(question)
    const others = lines.flatMap(({ node, answers }) => answers.map((answer): Answer => ({ node, answer })))
    return { answers: [...own, ...others], ...about }
  }

  #shared(question: Question): Promise<Others> {
    const text = JSON.stringify(question)
    const known = this.#pending.get(text)
    if (known) return known
    const problem = this.#pending.size < MAX_PENDING ? this.#outage : 'too many questions are asked at the same time'
    if (problem) return Promise.resolve({ lines: [], expected: undefined, complete: false, problem })
    const asking = this.#askOthers(question).finally(() => this.#pending.delete(text))
    this.#pending.set(text, asking)
    return asking
  }

  /** A node knows when it need not wait; the link of a script may only just be opening. */
  get #outage(): string | undefined {
    const isDown = this.#self && !this.#masters.of(this.#names.nodes)?.commands.isUp
    return isDown ? (this.#self?.problem() ?? 'Redis cannot be reached') : undefined
  }

  async #askOthers(question: Question): Promise<Others> {
    const deadline = performance.now() + ANSWER_TIME
    const { nodes: channel } = this.#names
    const token = randomBytes(16).toString('base64url')
    const commands: Command[] = [
      ['PUBSUB', 'NUMSUB', channel],
      ['PUBLISH', channel, encodeQuestion(question, token)],
    ]
    this.#self?.expect(token)
    try {
      const [listening, received] = await this.#run(channel, commands, deadline)
      const counted = Array.isArray(listening) ? Number(listening[1]) : undefined
      if (isPushError(received)) {
        return { lines: [], expected: counted, complete: false, problem: received.message }
      }
      // PUBLISH also counts pattern subscribers, which never answer.
      const expected = Math.min(counted ?? Number(received), Number(received))
      const lines = await this.#collect(token, expected, deadline)
      const refusal = lines.find(({ refused }) => refused !== undefined)
      return {
        lines,
        expected,
        complete: this.#countOf(lines) >= expected && !refusal,
        ...(refusal && { problem: `node ${refusal.node} does not say: ${refusal.refused}` }),
      }
    } finally {
      this.#self?.forget(token)
    }
  }

  /** What has been answered by the deadline. The line of this node is empty: what it says is known. */
  async #collect(token: string, expected: number, deadline: number): Promise<Line[]> {
    const key = this.#names.answers(token)
    const lines: Line[] = []
    let [read, bytes, wait] = [0, 0, FIRST_WAIT]
    while (lines.length < expected && read < MAX_NODES && bytes < MAX_BYTES) {
      const left = deadline - performance.now()
      if (left <= 0) break
      await sleep(Math.min(wait, left))
      const [page] = await this.#run(key, [['LRANGE', key, read, read + PAGE - 1]], deadline)
      if (!Array.isArray(page)) break
      wait = page.length === PAGE ? FIRST_WAIT : Math.min(wait * 2, LONGEST_WAIT)
      read += page.length
      for (const text of page.map(String)) {
        bytes += text.length
        const answer = parseAnswer(text)
        if (answer) lines.push(answer)
      }
    }
    return lines
  }

  /** A node that asks has answered itself, also if its own link is late and the question has not come back to it. */
  #countOf(lines: readonly Line[]): number {
    const isSelfMissing = this.#self && !lines.some(({ node }) => node === this.#self?.node)
    return lines.length + Number(isSelfMissing ?? false)
  }

  async recorded(topic: Topic): Promise<RecordedTopic | undefined> {
    const channel = this.#names.channel(topic)
    const [head, history] = keysOfTopic(channel) as [string, string]
    const [known, first] = await this.#read(channel, [
      ['HMGET', head, 'id', 'seq'],
      ['XRANGE', history, '-', '+', 'COUNT', 1],
    ])
    const [id, seq] = known as [string | null, string | null]
    if (id === null || seq === null) return undefined
    const oldest = positionOf(oldestId(first))
    return { head: { id, seq: Number(seq) }, size: oldest ? Math.max(0, Number(seq) - oldest.seq + 1) : 0 }
  }

  async rejected(topic: Topic): Promise<NotedRejection[]> {
    const { rejected: key } = this.#names
    const [notes] = await this.#read(key, [['LRANGE', key, 0, -1]])
    return (notes as unknown[]).flatMap(text => noteOn(topic, String(text))).slice(0, MAX_NOTES)
  }

  /** Throws the PushError of the first command that failed. */
  async #read(key: string, commands: Command[]): Promise<unknown[]> {
    const problem = this.#outage
    if (problem) throw new errors.BROKER_AWAY(problem)
    const replies = await this.#run(key, commands, performance.now() + ANSWER_TIME)
    const failed = replies.find(isPushError)
    if (failed) throw failed
    return replies
  }

  /** One reply or PushError for each command, by the deadline. */
  async #run(key: string, commands: Command[], deadline: number): Promise<unknown[]> {
    const replies = await within(
      Math.max(0, deadline - performance.now()),
      this.#masters.run(key, commands, COMMAND_TIMEOUT),
    )
    return replies ?? commands.map(() => new errors.BROKER_AWAY('Redis did not answer in time'))
  }
}

/** Any program can write to the list: whatever is not an answer is ignored. */
function parseAnswer(text: string): Line | undefined {
  if (text.length > MAX_ANSWER_BYTES) return undefined
  const value = parsed(text) as { node?: unknown; answers?: unknown; refused?: { message?: unknown } } | undefined
  if (typeof value?.node !== 'string' || value.node.length > MAX_TEXT) return undefined
  const refused = value.refused ? String(value.refused.message).slice(0, MAX_TEXT) : undefined
  return { node: value.node, answers: Array.isArray(value.answers) ? value.answers : [], refused }
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

import { type Misquestion, parseQuestion, type Question } from '../../protocol/question.ts'
import { MAX_ANSWER_BYTES } from '../inquiry.ts'
import type { Command } from './commands.ts'
import type { Names } from './names.ts'

/** Seconds for which the answers of the nodes can be read: nobody waits longer than one. */
const ANSWERS_TTL = 10

/** An answer costs work, and any program that may publish can ask. */
const MAX_PER_SECOND = 20

/** Nor is more than this read: in a Cluster each link brings the same question. */
const MAX_READ_PER_SECOND = 1000

/** Tokens that are remembered: in a Cluster a question comes over each link. */
const REMEMBERED = 256

export interface QuestionParts {
  node: string
  names: Names
  /** What the registrations of this process answer. */
  answers(question: Question): unknown[]
  refused(reason: Misquestion['reason']): void
  write(key: string, commands: Command[]): void
}

/** Questions that are put to all nodes, and what this node answers. */
export class Questions {
  readonly #parts: QuestionParts
  readonly #seen = new Set<string>()
  readonly #own = new Set<string>()
  #second = 0
  #read = 0
  #count = 0

  constructor(parts: QuestionParts) {
    this.#parts = parts
  }

  /** This node asks: what it has to say is known already. */
  expect(token: string): void {
    this.#own.add(token)
  }

  forget(token: string): void {
    this.#own.delete(token)
  }

  /** Never throws: any program may have written it. */
  heard(bytes: Uint8Array): void {
    if (!this.#mayRead()) return this.#parts.refused('rate')
    const read = parseQuestion(bytes)
    const { token } = read
    if (token === undefined) return this.#parts.refused((read as Misquestion).reason)
    if (this.#seen.has(token)) return
    const isOwn = this.#own.has(token)
    if (!isOwn && ++this.#count > MAX_PER_SECOND) return this.#parts.refused('rate')
    this.#remember(token)
    if (isOwn) return this.#write(token, {})
    if ('reason' in read) {
      const { reason, message } = read
      this.#parts.refused(reason)
      return this.#write(token, { refused: { reason, message } })
    }
    this.#write(token, { answers: this.#parts.answers(read.question) })
  }

  #write(token: string, answer: object): void {
    const { node, names } = this.#parts
    const key = names.answers(token)
    const text = JSON.stringify({ node, ...answer })
    const isTooLarge = Buffer.byteLength(text) > MAX_ANSWER_BYTES
    const refused = { reason: 'too_large', message: `the answer has more than ${MAX_ANSWER_BYTES} bytes` }
    this.#parts.write(key, [
      ['RPUSH', key, isTooLarge ? JSON.stringify({ node, refused }) : text],
      ['EXPIRE', key, ANSWERS_TTL],
    ])
  }

  /**
   * Only what is answered, which is so little in a second that a list of answers has ended before its token is forgotten:
   * whoever asks again and again with one token cannot make the list grow.
   */
  #remember(token: string): void {
    this.#seen.add(token)
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value!)
  }

  #mayRead(): boolean {
    const second = Math.floor(performance.now() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#read = 0
      this.#count = 0
    }
    return ++this.#read <= MAX_READ_PER_SECOND
  }
}

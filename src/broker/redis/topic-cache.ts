import type { Topic } from '../../protocol/topic.ts'

/** A power of two. Topics may share a place: then a string is created anew now and then, which does no harm. */
const PLACES = 8192

/**
 * Topics as strings. The bytes of a channel lead to the string that was created from the same bytes before, so that no
 * new string is created for every message.
 */
export class TopicCache {
  readonly #prefixBytes: number
  readonly #places: (Topic | undefined)[] = new Array(PLACES).fill(undefined)

  constructor(prefix: string) {
    this.#prefixBytes = Buffer.byteLength(prefix)
  }

  /** The topic of the channel at `start`: everything after the prefix. */
  at(memory: Buffer, start: number, end: number): Topic {
    const from = start + this.#prefixBytes
    let hash = 0
    for (let i = from; i < end; i++) hash = (Math.imul(hash, 31) + memory[i]!) | 0
    const place = (hash ^ (hash >>> 13)) & (PLACES - 1)
    const known = this.#places[place]
    if (known !== undefined && isSame(known, memory, from, end)) return known
    const name = memory.toString('utf8', from, end) as Topic
    this.#places[place] = name
    return name
  }
}

/** Also false for a name that is not ASCII, because its characters are not its bytes. */
function isSame(name: string, memory: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) !== memory[start + i]) return false
  return true
}

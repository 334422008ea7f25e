import type { Topic } from '../../protocol/topic.ts'

/** A power of two. Topics beyond that many share places: then a name is made anew now and then, and nothing else happens. */
const PLACES = 8192

/**
 * The names of topics as strings, each made once and not for every message: the bytes of a channel lead to the string
 * that was made of the same bytes before.
 */
export class TopicCache {
  readonly #prefixBytes: number
  readonly #places: (Topic | undefined)[] = new Array(PLACES).fill(undefined)

  constructor(prefix: string) {
    this.#prefixBytes = Buffer.byteLength(prefix)
  }

  /** The topic whose channel stands at `start`: everything behind the prefix. */
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

/** False also for a name that is not ASCII, whose characters are not its bytes. */
function isSame(name: string, memory: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) !== memory[start + i]) return false
  return true
}

import type { PushReader } from './push-reader.ts'

/** How long what was read is dealt with before sockets are written to and other events of the process get a turn. */
const SLICE = 8

/**
 * Bytes that wait here for their turn. Beyond that nothing is read: then they wait in the kernel and in Redis, which cuts
 * a subscriber off at its own limit (`client-output-buffer-limit pubsub`).
 */
const MAX_BYTES = 128 * 1024 * 1024

interface Source {
  pause(): unknown
  resume(): unknown
}

interface Read {
  reader: PushReader
  source: Source
  chunk: Buffer
}

/**
 * What was read from Redis and is still to be dealt with, as the chunks that came: a burst is taken off Redis at once,
 * whose limit for subscribers is low, but becomes objects only when there is time for them. Parsed ahead, they would be
 * old by then, and the garbage collector would copy all of them. Chunks of a link that was lost come before those of the
 * next one.
 */
export class ReadAhead {
  readonly #waiting: Read[] = []
  readonly #paused = new Set<Source>()
  #first = 0
  #bytes = 0
  /** The first of those that wait was begun. */
  #isBegun = false
  #sliceEnd = 0
  #scheduled: NodeJS.Immediate | undefined
  readonly #isLate = () => performance.now() >= this.#sliceEnd

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** `chunk` came from `source`, for `reader`. */
  add(source: Source, reader: PushReader, chunk: Buffer): void {
    this.#waiting.push({ reader, source, chunk })
    this.#bytes += chunk.length
    if (this.#scheduled === undefined) {
      // The first of a turn of the event loop: what comes alone is dealt with at once.
      this.#scheduled = setImmediate(() => this.#onTurn())
      this.#sliceEnd = performance.now() + SLICE
    }
    this.#read()
    if (this.#bytes <= MAX_BYTES) return
    source.pause()
    this.#paused.add(source)
  }

  #onTurn(): void {
    this.#scheduled = undefined
    if (this.#bytes === 0) return
    this.#scheduled = setImmediate(() => this.#onTurn())
    this.#sliceEnd = performance.now() + SLICE
    this.#read()
  }

  #read(): void {
    while (this.#first < this.#waiting.length && !this.#isLate()) {
      const { reader, chunk } = this.#waiting[this.#first]!
      const isDone = this.#isBegun ? reader.resume(this.#isLate) : reader.write(chunk, this.#isLate)
      this.#isBegun = !isDone
      if (isDone) this.#forgetFirst(chunk.length)
    }
  }

  #forgetFirst(bytes: number): void {
    this.#first++
    this.#bytes -= bytes
    if (this.#first === this.#waiting.length) {
      this.#waiting.length = 0
      this.#first = 0
    } else if (this.#first >= 1024) {
      this.#waiting.splice(0, this.#first)
      this.#first = 0
    }
    if (this.#paused.size > 0 && this.#bytes <= MAX_BYTES / 2) this.#resume()
  }

  #resume(): void {
    for (const source of this.#paused) source.resume()
    this.#paused.clear()
  }

  clear(): void {
    clearImmediate(this.#scheduled)
    this.#scheduled = undefined
    this.#waiting.length = 0
    this.#first = 0
    this.#bytes = 0
    this.#isBegun = false
    this.#resume()
  }
}

import type { PushReader } from './push-reader.ts'

/** Milliseconds of processing before sockets are written to and other events of the process get a turn. */
const SLICE = 8

/**
 * Limit of the bytes that wait here. Beyond it nothing is read: bytes wait in the kernel and in Redis, which cuts a
 * subscriber off at its own limit (`client-output-buffer-limit pubsub`).
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
 * Chunks that were read from Redis and have not been processed. A burst is read at once, because Redis has a low limit
 * for subscribers, but is parsed only when there is time: objects that wait would grow old, and the garbage collector
 * would copy them all. Chunks of a lost link come before those of the next one.
 */
export class ReadAhead {
  readonly #waiting: Read[] = []
  readonly #paused = new Set<Source>()
  #first = 0
  #bytes = 0
  /** The first waiting chunk was read in part. */
  #isBegun = false
  #sliceEnd = 0
  #scheduled: NodeJS.Immediate | undefined
  readonly #isLate = () => performance.now() >= this.#sliceEnd

  get bytes(): number {
    return this.#bytes
  }

  add(source: Source, reader: PushReader, chunk: Buffer): void {
    this.#waiting.push({ reader, source, chunk })
    this.#bytes += chunk.length
    if (this.#scheduled === undefined) {
      // The first chunk in a turn of the event loop is processed at once.
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

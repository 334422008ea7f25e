import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs'

/** A file of JSON lines that one process appends to. All clocks are the one of this machine. */
export class Journal {
  readonly #file: number
  #lines: string[] = []
  #isScheduled = false

  constructor(path: string) {
    this.#file = openSync(path, 'a')
  }

  /** In the file when this returns: for what must not share the fate of the process. */
  write(entry: object): void {
    this.note(entry)
    this.flush()
  }

  /** In the file soon. */
  note(entry: object): void {
    this.#lines.push(JSON.stringify({ t: Date.now(), ...entry }))
    if (this.#isScheduled) return
    this.#isScheduled = true
    setTimeout(() => this.flush(), 50).unref()
  }

  flush(): void {
    this.#isScheduled = false
    if (this.#lines.length > 0) writeSync(this.#file, this.#lines.join('\n') + '\n')
    this.#lines = []
  }

  close(): void {
    this.flush()
    closeSync(this.#file)
  }
}

/** The last line of a process that was killed may be incomplete: it is left out. One that never began has said nothing. */
export function readJournal<T>(path: string): (T & { t: number })[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  return lines.slice(0, -1).map(line => JSON.parse(line))
}

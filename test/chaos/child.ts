import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { within } from '../helpers/waiting.ts'

export interface Word {
  e: string
  [key: string]: unknown
}

/** A process that the run has started and ends. What it prints goes to `output`. */
export class Child {
  readonly process: ChildProcess
  readonly exited: Promise<number | null>
  readonly #name: string

  constructor(name: string, command: string, args: readonly string[], options: { output: string; config?: object }) {
    this.#name = name
    const file = openSync(options.output, 'a')
    const stdio: StdioOptions = options.config ? ['ignore', file, file, 'ipc'] : ['pipe', file, file]
    const env = options.config ? { ...process.env, CONFIG: JSON.stringify(options.config) } : process.env
    this.process = spawn(command, args, { stdio, env })
    this.exited = once(this.process, 'exit').then(([code]) => code)
    this.process.on('error', () => {})
  }

  get isRunning(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  tell(word: object): void {
    if (this.process.connected) this.process.send(word, () => {})
  }

  /** The next word of this kind. */
  hear(kind: string, milliseconds: number): Promise<Word> {
    let take: (word: unknown) => void = () => {}
    const heard = new Promise<Word>((resolve, reject) => {
      take = word => (word as Word).e === kind && resolve(word as Word)
      this.process.on('message', take)
      this.exited.then(code => reject(new Error(`${this.#name} exited with ${code} before it said "${kind}"`)))
    })
    return within(heard, `${this.#name} says "${kind}"`, milliseconds).finally(() => this.process.off('message', take))
  }

  ask(word: object, kind: string, milliseconds: number): Promise<Word> {
    const heard = this.hear(kind, milliseconds)
    this.tell(word)
    return heard
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.process.kill(signal)
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL')
    if (this.isRunning) await this.exited
  }
}

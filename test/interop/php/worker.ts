import { createInterface } from 'node:readline'
import { type Cleanup, Program, path } from '../../helpers/processes.ts'
import { Inbox } from '../../helpers/waiting.ts'

/** The PHP client as a process of its own: what it prints, in order. */
export class PhpClient {
  readonly program: Program
  readonly #lines = new Inbox<string>('a line of listen.php')

  constructor(t: Cleanup, url: string, options: object = {}) {
    this.program = new Program(t, 'php', [path('test/interop/php/listen.php'), url, JSON.stringify(options)])
    for (const input of [this.program.process.stdout!, this.program.process.stderr!]) {
      createInterface({ input }).on('line', line => this.#lines.put(line))
    }
    // Behind the last line.
    this.program.process.once('close', code => this.#lines.put(JSON.stringify({ exit: code })))
  }

  get pid(): number {
    return this.program.process.pid!
  }

  /** What the next line of a kind says; lines of other kinds before it are passed over. */
  async next<T = unknown>(kind: string): Promise<T> {
    for (;;) {
      const line = await this.#lines.take().catch(error => {
        throw new Error(`${error.message}, "${kind}"; it said:\n${this.program.lines.slice(-20).join('\n')}`)
      })
      const said = this.#read(line)
      if (kind in said) return said[kind] as T
      if ('exit' in said)
        throw new Error(`listen.php ended before ${kind}:\n${this.program.lines.slice(-20).join('\n')}`)
    }
  }

  #read(line: string): Record<string, unknown> {
    try {
      return JSON.parse(line)
    } catch {
      // A warning or an error of PHP.
      throw new Error(`listen.php said ${line}`)
    }
  }
}

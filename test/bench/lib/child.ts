import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { cpuSeconds, pinned } from './machine.ts'
import type { Response } from './rpc.ts'

export interface Start {
  file: string
  cpus: string | undefined
  nodeArgs?: string[]
  env?: Record<string, string>
}

/** A process of the bench: pinned, spoken to over IPC, and killed by its own pid. */
export class Child {
  port = 0
  readonly #process: ChildProcess
  readonly #pending = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  readonly #exited: Promise<void>
  #id = 0
  #failure: Error | undefined

  private constructor({ file, cpus, nodeArgs = [], env = {} }: Start) {
    const [command, ...args] = pinned(cpus, [process.execPath, ...nodeArgs, file])
    this.#process = spawn(command!, args, {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      env: { ...process.env, ...env },
    })
    this.#process.on('message', (response: Response) => this.#onResponse(response))
    this.#process.on('error', error => this.#fail(error))
    this.#exited = new Promise(resolve => {
      this.#process.on('exit', (code, signal) => {
        this.#fail(new Error(`${file} exited with ${code ?? signal}`))
        resolve()
      })
    })
  }

  /** Resolves when the child has said `ready PORT`. */
  static async start(start: Start): Promise<Child> {
    const child = new Child(start)
    await new Promise<void>((resolve, reject) => {
      child.#pending.set(0, { resolve: () => resolve(), reject })
      createInterface({ input: child.#process.stdout! }).on('line', line => {
        const port = /^ready (\d+)$/.exec(line)?.[1]
        if (port === undefined) return console.error(line)
        child.port = Number(port)
        child.#pending.delete(0)
        resolve()
      })
    })
    return child
  }

  /** CPU seconds of the process so far; asked of the kernel, because a blocked server could not answer. */
  cpu(): number {
    return cpuSeconds(this.#process.pid!)
  }

  request<T>(op: string, args: unknown = {}): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure)
    const id = ++this.#id
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: result => resolve(result as T), reject })
      this.#process.send({ id, op, args }, error => error && this.#fail(error))
    })
  }

  /** SIGKILL: what a run leaves behind is of no interest, and ten thousand polite goodbyes would take time. */
  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill('SIGKILL')
    await this.#exited
  }

  #onResponse({ id, result, error }: Response): void {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    if (error === undefined) pending?.resolve(result)
    else pending?.reject(new Error(error))
  }

  #fail(error: Error): void {
    this.#failure ??= error
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}

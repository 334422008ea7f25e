import { parseArgs } from 'node:util'
import { errors } from '../protocol/errors.ts'
import type { ScriptPublisher } from '../publisher.ts'
import { CALLS, type Call, type Given, UsageError } from './calls.ts'
import { printable } from './table.ts'

export interface Terminal {
  out(text: string): void
  err(text: string): void
  input(): Promise<string>
}

/** What ends a command: it did what it should, it could not, or it was not understood. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const

interface Parts {
  /** Flags that every command takes, for the way to Redis. */
  flags: Call['flags']
  /** A publisher with these flags. Throws with a sentence that names the setting. */
  open(flags: Given['flags']): ScriptPublisher
}

export function isCall(name: string | undefined): name is string {
  return name !== undefined && Object.hasOwn(CALLS, name)
}

/** The commands, a line each, for the help. */
export function callUsage(): string {
  return Object.entries(CALLS)
    .map(([name, { usage, about }]) => `  ${`${name} ${usage}`.trimEnd()}\n      ${about}`)
    .join('\n')
}

/** Runs a command and says how it ended. Never rejects. */
export async function runCall(
  name: string,
  argv: readonly string[],
  parts: Parts,
  terminal: Terminal,
): Promise<number> {
  const call = CALLS[name]!
  try {
    const { given, isJson } = read(call, argv, parts, terminal)
    const publisher = parts.open(given.flags)
    try {
      const result = await call.run(publisher, given)
      terminal.out(`${isJson ? JSON.stringify(result) : call.show(result as never)}\n`)
      return EXIT.done
    } finally {
      await publisher.end()
    }
  } catch (error) {
    return explain(name, call, error as Error & { code?: string }, terminal)
  }
}

function read(call: Call, argv: readonly string[], { flags }: Parts, { input }: Terminal) {
  const options = { ...flags, ...call.flags, json: { type: 'boolean' } } as const
  const { values, positionals } = parseArgs({ args: [...argv], allowPositionals: true, options })
  const [least, most] = call.takes
  if (positionals.length < least) throw new UsageError('something is missing')
  if (positionals.length > most) throw new UsageError(`"${positionals[most]}" is too much`)
  const given: Given = { args: positionals, flags: values as Given['flags'], input }
  return { given, isJson: (values as { json?: boolean }).json === true }
}

function explain(name: string, { usage }: Call, error: Error & { code?: string }, { err }: Terminal): number {
  const isUsage = error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS') || error.code === OPTIONS
  const help = isUsage ? `\nusage: fastify-push-bridge ${name} ${usage}`.trimEnd() : ''
  const code = error.code?.startsWith('PUSH_ERR_') && error.code !== OPTIONS ? `${error.code}: ` : ''
  err(`${code}${printable(error.message)}${help}\n`)
  return isUsage ? EXIT.usage : EXIT.failed
}

const { code: OPTIONS } = new errors.OPTIONS('')

import { parseArgs } from 'node:util'
import { errors } from '../protocol/errors.ts'
import type { ScriptPublisher } from '../publisher.ts'
import {
  type Call,
  type Described,
  type Desk,
  EXIT,
  type FlagTable,
  type Given,
  type Task,
  type Terminal,
  UsageError,
  type Way,
} from './command.ts'
import { COMMANDS } from './commands.ts'
import { jsonOf, printable } from './table.ts'

export { EXIT, type Terminal }

interface Parts {
  /** Flags that every command takes, for the way to Redis. */
  flags: FlagTable
  /** A publisher with these flags. Throws with a sentence that names the setting. */
  open(flags: Given['flags']): ScriptPublisher
  way?(flags: Given['flags']): Way | undefined
  env?: NodeJS.ProcessEnv
}

export function isCall(name: string | undefined): name is string {
  return name !== undefined && Object.hasOwn(COMMANDS, name)
}

/** The commands, a line each, for the help. */
export function callUsage(): string {
  return Object.entries(COMMANDS)
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
  const command = COMMANDS[name]!
  try {
    const { given, isJson } = read(command, argv, parts, terminal)
    if ('perform' in command) return await perform(command, given, { isJson, parts, terminal })
    return await ask(command, given, { isJson, parts, terminal })
  } catch (error) {
    return explain(name, command, error as Error & { code?: string }, terminal)
  }
}

interface Around {
  isJson: boolean
  parts: Parts
  terminal: Terminal
}

async function ask(call: Call, given: Given, { isJson, parts, terminal }: Around): Promise<number> {
  const publisher = parts.open(given.flags)
  try {
    const result = await call.run(publisher, given)
    terminal.out(`${isJson ? jsonOf(result) : call.show(result as never)}\n`)
    return EXIT.done
  } finally {
    await publisher.end()
  }
}

async function perform(task: Task, given: Given, { isJson, parts, terminal }: Around): Promise<number> {
  const opened: ScriptPublisher[] = []
  const desk: Desk = {
    terminal,
    isJson,
    env: parts.env ?? {},
    ended: terminal.ended ?? new AbortController().signal,
    open() {
      const publisher = parts.open(given.flags)
      opened.push(publisher)
      return publisher
    },
    way: () => parts.way?.(given.flags),
    commands: COMMANDS,
  }
  try {
    return await task.perform(given, desk)
  } finally {
    for (const publisher of opened) await publisher.end()
  }
}

function read(command: Described, argv: readonly string[], { flags }: Parts, { input }: Terminal) {
  const options = { ...flags, ...command.flags, json: { type: 'boolean' } } as const
  const { values, positionals } = parseArgs({ args: [...argv], allowPositionals: true, options })
  const [least, most] = command.takes
  if (positionals.length < least) throw new UsageError('something is missing')
  if (positionals.length > most) throw new UsageError(`"${positionals[most]}" is too much`)
  const given: Given = { args: positionals, flags: values as Given['flags'], input }
  return { given, isJson: (values as { json?: boolean }).json === true }
}

function explain(name: string, { usage }: Described, error: Error & { code?: string }, { err }: Terminal): number {
  const isUsage = error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS') || error.code === OPTIONS
  const help = isUsage ? `\nusage: fastify-push-bridge ${name} ${usage}`.trimEnd() : ''
  const code = error.code?.startsWith('PUSH_ERR_') && error.code !== OPTIONS ? `${error.code}: ` : ''
  err(`${code}${printable(error.message)}${help}\n`)
  return isUsage ? EXIT.usage : EXIT.failed
}

const { code: OPTIONS } = new errors.OPTIONS('')

import type { RedisSource } from '../broker/redis/client.ts'
import type { ScriptPublisher } from '../publisher.ts'

export type Flags = Readonly<Record<string, string | boolean | undefined>>
export type FlagTable = Readonly<Record<string, { type: 'string' | 'boolean' }>>

/** What a command was given. */
export interface Given {
  args: readonly string[]
  flags: Flags
  /** All of the standard input. */
  input(): Promise<string>
}

/** What the help, the completion and the reader of a command line know of a command. */
export interface Described {
  /** The arguments, as the help shows them. */
  usage: string
  about: string
  flags: FlagTable
  /** How many arguments it takes. */
  takes: readonly [least: number, most: number]
  /** False: it does without Redis. */
  needsRedis?: boolean
}

/** A command that asks or tells once through Redis, and ends. */
export interface Call extends Described {
  run(publisher: ScriptPublisher, given: Given): Promise<unknown>
  /** The result for people. */
  show(result: never): string
}

/** A command with a course of its own. */
export interface Task extends Described {
  /** Resolves with how it ended. */
  perform(given: Given, desk: Desk): Promise<number>
}

/** The terminal, or the pipe, that a command writes to. */
export interface Terminal {
  out(text: string): void
  err(text: string): void
  input(): Promise<string>
  /** Aborted as soon as nobody wants more: by Ctrl-C, or because who read it has gone. */
  ended?: AbortSignal
  /** Only where somebody looks at it. */
  screen?: Screen
}

export interface Screen {
  size(): { columns: number; rows: number }
  /** Has the screen for itself, and calls `press` for each key, until the function that it returns is called. */
  take(press: (key: string) => void): () => void
}

/** The way to Redis. */
export interface Way {
  redis: RedisSource
  redisPrefix: string
}

/** What a task has at hand. */
export interface Desk {
  terminal: Terminal
  isJson: boolean
  env: NodeJS.ProcessEnv
  ended: AbortSignal
  /** Throws with a sentence that names the setting if Redis is not named. */
  open(): ScriptPublisher
  /** Undefined if Redis is not named. */
  way(): Way | undefined
  /** Every command, by name. */
  commands: Readonly<Record<string, Described>>
}

/** What ends a command: it did what it should, it could not, or it was not understood. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const

/** Wrong on the command line: the usage is shown. */
export class UsageError extends Error {}

export function numberIn(flags: Flags, name: string): number | undefined {
  const text = flags[name]
  if (text === undefined) return undefined
  const number = Number(text)
  if (text === '' || !Number.isFinite(number)) throw new UsageError(`--${name} is "${text}": it must be a number`)
  return number
}

/** A whole number within bounds. */
export function countIn(
  flags: Flags,
  name: string,
  bounds: { fallback: number; most: number; least?: number },
): number {
  const { fallback, most, least = 1 } = bounds
  const number = numberIn(flags, name) ?? fallback
  if (Number.isInteger(number) && number >= least && number <= most) return number
  throw new UsageError(`--${name} is ${number}: it must be a whole number from ${least} to ${most}`)
}

export function listIn(flags: Flags, name: string): string[] | undefined {
  const text = flags[name]
  return typeof text === 'string' ? text.split(',').map(item => item.trim()) : undefined
}

export const text = { type: 'string' } as const
export const on = { type: 'boolean' } as const

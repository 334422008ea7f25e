import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import { type Command, type CommandLink, MIN_TIME, type Patience } from './commands.ts'
import { keysOfPresence, keysOfTopic } from './names.ts'

const LIBRARY = readFileSync(new URL('./push.lua', import.meta.url), 'utf8')
/** A library with a higher version is newer than this code and is not replaced. */
export const LIBRARY_VERSION = Number(/^local VERSION = (\d+)$/m.exec(LIBRARY)![1])
/** The same body for servers that forbid functions: the first argument names the function to call. */
const SCRIPT = `${LIBRARY.slice(LIBRARY.indexOf('\n'))}\nreturn functions[table.remove(ARGV, 1)](KEYS, ARGV)`
const SCRIPT_SHA = createHash('sha1').update(SCRIPT).digest('hex')

export interface Call {
  name: OfHistory | OfPresence | 'push_tick'
  keys: readonly string[]
  args: readonly (string | number)[]
}

type OfHistory = 'push_publish' | 'push_heads' | 'push_history' | 'push_newest' | 'push_compare'
type OfPresence = 'push_presence' | 'push_purge' | 'push_members' | 'push_member'

type Reply = unknown | PushError

/** Calls the functions of push.lua, and loads them when they are missing: after a restart, a flush or a failover. */
export class Functions {
  readonly #commands: CommandLink
  /** Each call is about one topic then: others may be in other slots. */
  readonly isCluster: boolean
  /** This server allows neither functions nor scripts. */
  #isForbidden = false
  /** The last refused call of each function without which nothing can be recorded. */
  readonly #refused = new Map<Call['name'], Call>()
  #isScript = false
  #loading: Promise<PushError | undefined> | undefined

  constructor(commands: CommandLink, { isCluster = false } = {}) {
    this.#commands = commands
    this.isCluster = isCluster
  }

  /** False while this server does not let the node record anything. */
  get isSupported(): boolean {
    return !this.#isForbidden && this.#refused.size === 0
  }

  /** Makes the refused calls again, except that of the tick, which is not made twice: a right may have been granted. */
  async recheck(timeout: number): Promise<void> {
    const calls = [...this.#refused.values()].filter(({ name }) => name !== 'push_tick')
    if (calls.length > 0) await this.run(calls, timeout)
  }

  /** Replaces an older library. Called whenever the link may lead to another server. */
  async update(timeout: number): Promise<void> {
    this.#isScript = false
    this.#isForbidden = false
    this.#refused.clear()
    const version = await this.#version(timeout)
    if (isMissing(version)) await this.#load(timeout, version)
    else if (typeof version === 'number' && version < LIBRARY_VERSION) await this.#load(timeout, undefined)
  }

  /** The same for a slot that is just being moved to this server, which takes only one call at a time. */
  async runAsking(call: Call, timeout: number, patience?: Patience): Promise<Reply> {
    const [, reply] = await this.#commands.run([['ASKING'], this.#command(call)], timeout, patience)
    return this.#understood(call, reply)
  }

  /** One reply or PushError for each call, within the timeout. */
  async run(calls: readonly Call[], timeout: number, patience?: Patience): Promise<Reply[]> {
    // Without ticks nobody would notice that a history is not the one that a client knows.
    const isUnchecked = this.#refused.has('push_tick') && calls.some(({ name }) => READS.test(name))
    if (isUnchecked) return calls.map(() => new errors.UNSUPPORTED(UNCHECKED))
    const deadline = performance.now() + timeout
    const commands = calls.map(call => this.#command(call))
    const replies = await this.#commands.run(commands, timeout, patience)
    const missing = calls.filter((_, i) => isMissing(replies[i]))
    if (missing.length > 0) {
      const again = await this.#loadAndRun(missing, replies.find(isMissing), deadline, timeout)
      let next = 0
      for (let i = 0; i < replies.length; i++) if (isMissing(replies[i])) replies[i] = again[next++]
    }
    return replies.map((reply, i) => this.#understood(calls[i]!, reply))
  }

  async #loadAndRun(calls: Call[], missing: Reply, deadline: number, timeout: number): Promise<Reply[]> {
    const left = () => deadline - performance.now()
    // Without an answer in time the link would be closed, and other calls would lose their answers.
    const isLate = () => left() < Math.min(MIN_TIME, timeout / 2)
    const problem = isLate() ? undefined : await this.#load(left(), missing)
    if (problem) return calls.map(() => problem)
    if (isLate()) {
      const late = new errors.BROKER_AWAY('the functions had to be loaded first: no time was left for this call')
      return calls.map(() => late)
    }
    const commands = calls.map(call => this.#command(call))
    return this.#commands.run(commands, left())
  }

  #understood(call: Call, reply: Reply): Reply {
    const refusal = refusalOf(reply)
    if (refusal === undefined) {
      if (!isPushError(reply)) this.#granted(call)
      return reply
    }
    if (!FORBIDDEN.test(refusal)) return ownError(refusal) ?? reply
    // What one topic is refused says nothing about others, and who may not read a history can still record.
    if (call.name !== 'push_publish' && !READS.test(call.name) && !isOfPresence(call.name))
      this.#refused.set(call.name, call)
    const right = rightOfCall(call, refusal)
    const what = isOfPresence(call.name) ? 'presence needs' : 'recorded topics need'
    const error = new errors.UNSUPPORTED(`${what} the right ${right} (docs/redis.md); Redis said: ${refusal}`)
    this.#commands.refusals.add(call.name, { command: call.name, right, fails: FAILS[call.name], error })
    return error
  }

  #granted({ name }: Call): void {
    const { refusals } = this.#commands
    if (refusals.areAny) for (const kind of [name, LOADING]) refusals.delete(kind)
    this.#refused.delete(name)
  }

  #command({ name, keys: channels, args }: Call): Command {
    const keys = this.isCluster ? keysOf(name, channels, args) : channels
    return this.#isScript
      ? ['EVALSHA', SCRIPT_SHA, keys.length, ...keys, name, ...args]
      : ['FCALL', name, keys.length, ...keys, ...args]
  }

  /**
   * Why the functions cannot be loaded; undefined once they are loaded. `missing` is the reply that said they are
   * missing, undefined to replace an older library.
   */
  #load(timeout: number, missing: Reply): Promise<PushError | undefined> {
    this.#loading ??= this.#loadOnce(performance.now() + timeout, missing).finally(() => {
      this.#loading = undefined
    })
    return this.#loading
  }

  async #loadOnce(deadline: number, missing: Reply): Promise<PushError | undefined> {
    const run = (command: Command) => this.#commands.run([command], Math.max(1, deadline - performance.now()))
    const load: Command = missing ? ['FUNCTION', 'LOAD', LIBRARY] : ['FUNCTION', 'LOAD', 'REPLACE', LIBRARY]
    // A user who may not call functions gains nothing by loading them.
    const [reply] = missing && needsScript(missing) ? [missing] : await run(load)
    const refusal = refusalOf(reply)
    if (refusal === undefined) return this.#loaded(reply, false)
    if (refusal.includes('already exists')) return this.#useExisting(deadline)
    const [sha] = await run(['SCRIPT', 'LOAD', SCRIPT])
    if (refusalOf(sha) === undefined) return this.#loaded(sha, true)
    this.#isForbidden = true
    const error = new errors.UNSUPPORTED(
      `recorded topics need functions (Redis 7, Valkey) or scripts; this server said: ${refusal}`,
    )
    // A server without either says nothing about rights.
    if (refusal.startsWith('NOPERM')) {
      const right = `+${/'([\w|-]+)' command/.exec(refusal)?.[1] ?? 'fcall'}`
      this.#commands.refusals.add(LOADING, { command: 'FUNCTION LOAD', right, fails: 'nothing is recorded', error })
    }
    return error
  }

  /** Redis did not refuse to load them, but it may not have answered. */
  #loaded(reply: Reply, isScript: boolean): PushError | undefined {
    if (isPushError(reply)) return reply
    this.#isScript = isScript
    this.#isForbidden = false
    return undefined
  }

  /** Another node was faster, or an older library lacks the function that was called. */
  async #useExisting(deadline: number): Promise<PushError | undefined> {
    const version = await this.#version(Math.max(1, deadline - performance.now()))
    if (typeof version === 'number' && version < LIBRARY_VERSION) return this.#loadOnce(deadline, undefined)
    this.#isScript = false
    this.#isForbidden = false
    return undefined
  }

  async #version(timeout: number): Promise<Reply> {
    const [version] = await this.#commands.run([['FCALL', 'push_version', 0]], timeout)
    return version
  }
}

/** The error with which Redis answered; undefined if it gave a result or no answer. */
function refusalOf(reply: Reply): string | undefined {
  if (!isPushError(reply)) return undefined
  const { cause } = reply
  return cause instanceof Error && cause.name === 'ReplyError' ? cause.message : undefined
}

function isMissing(reply: Reply): boolean {
  return refusalOf(reply)?.includes('Function not found') || needsScript(reply)
}

/** Functions cannot be called on this server, or the script that replaces them is not loaded. */
function needsScript(reply: Reply): boolean {
  const refusal = refusalOf(reply) ?? ''
  if (refusal.startsWith('NOPERM')) return /'fcall'/i.test(refusal)
  return refusal.startsWith('NOSCRIPT') || /unknown command .?FCALL/i.test(refusal)
}

function isOfPresence(name: Call['name']): name is OfPresence {
  return /^push_(presence|purge|members?)$/.test(name)
}

/** In a Cluster the keys are named, so that Redis itself says where a slot is that moves. */
function keysOf(name: Call['name'], channels: readonly string[], args: Call['args']): readonly string[] {
  const [channel] = channels
  if (name === 'push_tick' || channel === undefined) return channels
  if (isOfPresence(name))
    return keysOfPresence(channel, /^push_(presence|purge)$/.test(name) ? String(args[0]) : undefined)
  return keysOfTopic(channel, name === 'push_publish' ? args[3] : undefined)
}

type MakeError = new (message: string) => PushError

/** The user may call functions, but the functions may not run their commands. */
const FORBIDDEN = /NOPERM|ACL failure|can't (run this command|access at least one of the keys)/

const READS = /^push_(history|newest)$/

const UNCHECKED =
  'no history is read while Redis refuses push_tick to this node: docs/redis.md has the rights that it needs'

/** The kind of the refusal to load the functions. */
const LOADING = 'functions'

const FAILS: Record<Call['name'], string> = {
  push_publish: 'nothing is recorded on some topics',
  push_heads: 'nothing is recorded',
  push_history: 'clients get a gap instead of what they missed',
  push_newest: 'clients get a gap instead of the newest messages of a topic',
  push_compare: 'losses of recorded topics are not filled',
  push_tick: 'nothing is recorded',
  push_presence: 'nobody learns who is on some topics',
  push_purge: 'users of a node that has died stay on some topics',
  push_members: 'clients do not learn who is on some topics',
  push_member: 'users cannot be looked up',
}

/**
 * The right that a call lacks. push.lua names it for a publication; for the others Redis says in which line of push.lua
 * it refused a command.
 */
function rightOfCall({ keys }: Call, refusal: string): string {
  const [, command] = /'([\w|-]+)' command/.exec(refusal) ?? []
  if (command) return `+${command}`
  const [, asked, name] = /permission for (\w+) (.*)$/s.exec(refusal) ?? []
  if (asked) return `+${asked.toLowerCase()} or ${asked === 'PUBLISH' ? '&' : '~'}${name}`
  const line = LIBRARY.split('\n')[Number(/@user_(?:function|script):\s*(\d+)/.exec(refusal)?.[1]) - 1]
  const [, called] = /redis\.p?call\('([A-Z]+)'/.exec(line ?? '') ?? []
  if (called && refusal.includes("can't run this command")) return `+${called.toLowerCase()}`
  return `~{${keys[0]!.replace(/^\{|\}.*$/gs, '')}}:*`
}

const CODES = new Map<string, MakeError>(Object.values(errors).map(make => [new make('').code, make as MakeError]))

/** A function names one of our codes to say why it did nothing. */
function ownError(refusal: string): PushError | undefined {
  const [, code = '', message = ''] = /^(PUSH_ERR_[A-Z_]+) (.*)$/s.exec(refusal) ?? []
  const make = CODES.get(code)
  // Some codes put their argument into a sentence. Here the message is the whole sentence already.
  return make && Object.assign(new make(message), { message })
}

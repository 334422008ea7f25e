/** A command as it is sent. */
type Command = readonly [name: string, ...args: (string | number | Buffer)[]]

/** A right that the user of this node lacks, and what does not work without it. */
export interface Refusal {
  /** As ACL SETUSER takes it; two if Redis does not say which of them it is. */
  right: string
  /** What was refused: the name of the command. */
  command: string
  fails: string
  error: Error
}

/** Milliseconds for which a refusal counts, unless the same is granted before, and between two log lines about it. */
const KEPT = 60_000
const TELL_INTERVAL = 60_000

/** So many commands and kinds of name there are not. */
const MOST = 50

/** What Redis refuses to this node while the link is up. Each right costs only what needs it. */
export class Refusals {
  /** For the log. */
  told: (refusal: Refusal) => void = () => {}
  readonly #known = new Map<string, Refusal & { at: number }>()
  readonly #toldAt = new Map<string, number>()

  /** False while nothing is refused: then nobody need be told what is granted. */
  get areAny(): boolean {
    return this.#known.size > 0
  }

  /** `kind` is the same for what needs the same right. */
  add(kind: string, refusal: Refusal, now = performance.now()): void {
    if (this.#known.size < MOST || this.#known.has(kind)) this.#known.set(kind, { ...refusal, at: now })
    const toldAt = this.#toldAt.get(kind)
    if (toldAt === undefined ? this.#toldAt.size >= MOST : now - toldAt < TELL_INTERVAL) return
    this.#toldAt.set(kind, now)
    this.told(refusal)
  }

  delete(kind: string): void {
    this.#known.delete(kind)
  }

  /** The sentences for those that count. */
  problems(now = performance.now()): string[] {
    for (const [kind, { at }] of this.#known) if (now - at >= KEPT) this.#known.delete(kind)
    return [...this.#known.values()].map(problemOf)
  }

  /** Notes what Redis answered to a command that is not about functions, which have rights of their own. */
  observe(command: Command, error: Error | null | undefined): void {
    const kind = kindOf(command)
    if (!error) this.delete(kind)
    else if (error.message.startsWith('NOPERM')) this.add(kind, refusalOf(command, error))
  }
}

export function problemOf({ command, right, fails }: Refusal): string {
  return `Redis refuses ${command}: its user lacks the right ${right}, so ${fails}`
}

function refusalOf(command: Command, error: Error): Refusal {
  return { right: rightIn(command, error.message), command: nameOf(command), fails: failsWithout(command), error }
}

function nameOf([name, sub]: Command): string {
  return SUBCOMMANDS.test(name) ? `${name} ${sub}` : name
}

const SUBCOMMANDS = /^(PUBSUB|CLUSTER|XGROUP|XINFO)$/

/** One for each command and kind of name: receipts and tickets have names that nobody may read in a log. */
function kindOf(command: Command): string {
  return `${nameOf(command)} ${patternOf(targetOf(command))}`
}

/** The key or channel of a command. */
function targetOf(command: Command): string {
  if (command[0] === 'XREADGROUP') return String(command[command.indexOf('STREAMS') + 1])
  return String(command[SUBCOMMANDS.test(command[0]) ? 2 : 1] ?? '')
}

/** `push:user:42` is one of `push:user:*`. */
function patternOf(name: string): string {
  return name.replace(/^(.*?(?:channel|user|connection|receipt|answers|tickets?|revoked|node):).*$/s, '$1*')
}

function rightIn(command: Command, message: string): string {
  const [, name] = /'([\w|-]+)' command/.exec(message) ?? []
  if (name) return `+${name}`
  return `${message.includes('channel') ? '&' : '~'}${patternOf(targetOf(command))}`
}

function failsWithout(command: Command): string {
  const target = targetOf(command)
  if (/receipt:/.test(target)) return 'receipts fail'
  if (/answers:/.test(target)) return 'this node does not answer when all nodes are asked'
  if (/ticket:/.test(target)) return 'tickets fail'
  if (/revoked:/.test(target)) return 'users who are revoked are not kept out'
  if (/tickets:/.test(target)) return 'the tickets of a user have no bound'
  if (command[0].startsWith('X') && INGRESS.test(target)) return ofIngress(command, target)
  if (/rejected$/.test(target)) return 'no note of a rejected envelope is kept'
  return FAILS[nameOf(command)] ?? `${nameOf(command)} fails`
}

const INGRESS = /:?ingress(:[\w.-]*)?(:dead)?$/

function ofIngress(command: Command, target: string): string {
  if (target.endsWith(':dead')) return 'dead letters of an ingress stream are not written, and it is read no further'
  return FAILS_OF_INGRESS[nameOf(command)] ?? 'an ingress stream is not read'
}

const FAILS_OF_INGRESS: Record<string, string> = {
  XACK: 'an ingress stream is read no further',
  XAUTOCLAIM: 'what a node that is gone has left of an ingress stream is not published',
  XTRIM: 'an ingress stream grows',
  'XGROUP DELCONSUMER': 'consumers of an ingress stream that are gone stay in its group',
  'XINFO CONSUMERS': 'consumers of an ingress stream that are gone stay in its group',
  'XINFO GROUPS': 'an ingress stream grows, and nobody knows how much waits there',
  XCLAIM: 'what a node takes long for may be published twice',
}

const KEEPS_ALL = 'this node goes on receiving what none of its connections wants any more'

const FAILS: Record<string, string> = {
  PUBLISH: 'publishing fails',
  UNSUBSCRIBE: KEEPS_ALL,
  SUNSUBSCRIBE: KEEPS_ALL,
  XADD: 'events are not written',
  XTRIM: 'old events are not removed',
  'PUBSUB NUMSUB': 'nodes are not counted',
  INFO: 'a replica that is promoted without the latest publications is not noticed',
  'CLUSTER SLOTS': 'a failover and slots that move are not noticed',
  ASKING: 'publications on a topic wait while its slot moves',
  'CLUSTER INFO': 'a server that was cut off from its Cluster is not noticed',
}

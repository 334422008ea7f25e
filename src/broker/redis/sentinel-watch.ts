import type { ConnectionOptions } from 'node:tls'
import { Redis, type RedisOptions } from 'ioredis'
import type { Address } from './link.ts'
import { entriesOf, SENTINEL_PORT, type SentinelEntry, withServerName } from './sentinels.ts'

/** The master as one Sentinel knows it. The epoch grows with every failover. */
interface View {
  master: Address
  epoch: number
}

interface Sentinel {
  entry: SentinelEntry
  client: Redis
  /** What the connection has reported since the last answer. */
  failure: Error | undefined
}

/** Milliseconds that a Sentinel has for its answer: a frozen one must not hold up the others. */
const ANSWER = 1000

/** Once more than half have answered, the others have this many milliseconds more. */
const STRAGGLERS = 50

/** Milliseconds between two attempts to reach one Sentinel, at most, and between two looks at all of them. */
const RETRY_MAX = 1000
const LOOK_INTERVAL = 1000

/** More Sentinels than this are not asked, whatever the others say. */
const MOST_SENTINELS = 16

/**
 * Which server is the master. ioredis believes the first Sentinel that answers, which may have been cut off from the
 * others since before the last failover, and waits for ever for one that is frozen. So all of them are asked, and
 * those with the highest epoch are believed, as they believe each other.
 */
export class SentinelWatch {
  readonly #options: RedisOptions
  readonly #name: string
  readonly #sentinels = new Map<string, Sentinel>()
  readonly #followers = new Set<Follower>()
  readonly #timer: NodeJS.Timeout
  #finding: Promise<Address | Error> | undefined

  constructor(options: RedisOptions) {
    this.#options = options
    this.#name = String(options.name)
    for (const entry of entriesOf(options.sentinels ?? [])) this.#add(entry)
    this.#timer = setInterval(() => {
      if (this.#followers.size > 0) void this.find()
    }, LOOK_INTERVAL)
    this.#timer.unref()
  }

  #add(entry: SentinelEntry): void {
    const { host, port } = entry
    const key = placeOf(entry)
    if (this.#sentinels.has(key) || this.#sentinels.size >= MOST_SENTINELS) return
    const options = this.#options
    const client = new Redis({
      host,
      port,
      username: entry.username ?? options.sentinelUsername ?? undefined,
      password: entry.password ?? options.sentinelPassword ?? undefined,
      tls: tlsTo(entry, options.sentinelTLS),
      family: options.family,
      protocol: options.protocol,
      replyMapping: 'legacy',
      lazyConnect: true,
      enableReadyCheck: false,
      disableClientInfo: true,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      connectTimeout: ANSWER,
      commandTimeout: ANSWER,
      disconnectTimeout: 100,
      retryStrategy: attempt => Math.min(RETRY_MAX, 50 * 2 ** Math.min(attempt, 10)),
    })
    const sentinel: Sentinel = { entry, client, failure: undefined }
    client.on('error', error => {
      sentinel.failure = error
    })
    this.#sentinels.set(key, sentinel)
  }

  /** The master, or why none is known. Whoever follows another one learns of it before this resolves. */
  find(): Promise<Address | Error> {
    this.#finding ??= this.#find().finally(() => {
      this.#finding = undefined
    })
    return this.#finding
  }

  async #find(): Promise<Address | Error> {
    const views: View[] = []
    const problems: string[] = []
    const asking = [...this.#sentinels.values()].map(async sentinel => {
      const view = await this.#ask(sentinel).catch((error: Error) => error)
      if (view instanceof Error) problems.push(`${placeOf(sentinel.entry)} ${view.message}`)
      else views.push(view)
      return !(view instanceof Error)
    })
    await mostOf(asking)
    const master = bestOf(views)
    if (!master) return new Error(`no Sentinel leads to the master "${this.#name}": ${problems.join('; ')}`)
    for (const { known, moved } of [...this.#followers]) if (placeOf(known) !== placeOf(master)) moved(master)
    return master
  }

  async #ask(sentinel: Sentinel): Promise<View> {
    const { client } = sentinel
    try {
      const [address, master] = await Promise.all([
        client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.#name),
        client.call('SENTINEL', 'MASTER', this.#name).catch(unlessUnknown),
      ])
      sentinel.failure = undefined
      const [host, port] = (address ?? []) as string[]
      if (!host) throw new Error('knows no master of this name')
      return {
        master: this.#mapped({ host, port: Number(port) }),
        epoch: Number(fieldsOf(master)['config-epoch'] ?? 0),
      }
    } catch (error) {
      // What a frozen Sentinel was asked would wait in the memory of this process.
      if ((error as Error).message === 'Command timed out') client.disconnect(true)
      throw sentinel.failure ?? error
    }
  }

  /** Adds the Sentinels that the known ones know, so that a list which is out of date leads somewhere. */
  async discover(): Promise<void> {
    for (const { client, entry } of [...this.#sentinels.values()]) {
      // The right to ask this may be missing: those of the list are enough.
      const others = await client.call('SENTINEL', 'SENTINELS', this.#name).catch(() => [])
      for (const other of others as unknown[]) {
        const { ip, port } = fieldsOf(other)
        if (ip) this.#add({ ...entry, ...this.#mapped({ host: ip, port: Number(port) || SENTINEL_PORT }) })
      }
    }
  }

  #mapped(address: Address): Address {
    const { natMap } = this.#options
    const key = placeOf(address)
    const mapped = typeof natMap === 'function' ? natMap(key) : natMap?.[key]
    return mapped ? { host: mapped.host, port: mapped.port } : address
  }

  /** Calls `moved` when the Sentinels name another master than `known`. Returns what ends that. */
  follow(known: Address, moved: (master: Address) => void): () => void {
    const follower = { known, moved }
    this.#followers.add(follower)
    return () => void this.#followers.delete(follower)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#followers.clear()
    for (const { client } of this.#sentinels.values()) client.disconnect()
  }
}

interface Follower {
  known: Address
  moved(master: Address): void
}

const watches = new Map<string, { watch: SentinelWatch; users: number }>()

/**
 * The watch for these options. The links of a node share one, so that they move to another master at the same moment:
 * one that receives from the new master while the other still asks the old one would not notice what is missing.
 */
export function acquireWatch(options: RedisOptions): { watch: SentinelWatch; release(): void } {
  const { sentinels, name, sentinelUsername, sentinelPassword, sentinelTLS, family, protocol, natMap } = options
  const key = JSON.stringify([
    sentinels,
    name,
    sentinelUsername,
    sentinelPassword,
    sentinelTLS,
    family,
    protocol,
    natMap,
  ])
  const entry = watches.get(key) ?? { watch: new SentinelWatch(options), users: 0 }
  watches.set(key, entry)
  entry.users++
  return {
    watch: entry.watch,
    release() {
      if (--entry.users > 0) return
      watches.delete(key)
      entry.watch.close()
    },
  }
}

function tlsTo({ host, tls }: SentinelEntry, common: ConnectionOptions | undefined): ConnectionOptions | undefined {
  return tls === false || !(tls || common) ? undefined : withServerName({ ...common, ...tls }, host)
}

export const placeOf = ({ host, port }: Address): string => `${host}:${port}`

/** Of the newest views, that of most Sentinels: before the first failover one that was set up wrong is not older. */
function bestOf(views: readonly View[]): Address | undefined {
  const epoch = Math.max(...views.map(view => view.epoch))
  const masters = views.filter(view => view.epoch === epoch).map(({ master }) => master)
  const votes = (master: Address) => masters.filter(other => placeOf(other) === placeOf(master)).length
  return masters.toSorted((a, b) => votes(b) - votes(a))[0]
}

/** Resolves when all have answered, or more than half of them and the others are late. */
async function mostOf(asking: readonly Promise<boolean>[]): Promise<void> {
  let grace: NodeJS.Timeout | undefined
  let answers = 0
  const most = new Promise<void>(resolve => {
    for (const each of asking) {
      void each.then(isAnswer => {
        if (isAnswer && ++answers * 2 > asking.length) grace ??= setTimeout(resolve, STRAGGLERS)
      })
    }
  })
  await Promise.race([Promise.all(asking), most])
  clearTimeout(grace)
}

/** `No such master` is said by the answer to the other question already; a missing right is not. */
function unlessUnknown(error: Error): unknown {
  if (error.message.includes('No such master')) return []
  throw error
}

function fieldsOf(reply: unknown): Record<string, string> {
  const flat = Array.isArray(reply) ? reply.map(String) : []
  return Object.fromEntries(flat.flatMap((value, i) => (i % 2 === 0 ? [[value, flat[i + 1] ?? '']] : [])))
}

import { connect as connectTcp, Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { AbstractConnector, type RedisOptions } from 'ioredis'
import type { Address } from './link.ts'
import { acquireWatch, placeOf, type SentinelWatch } from './sentinel-watch.ts'
import { withServerName } from './sentinels.ts'

/** Opens the connections of one client to the master that the Sentinels name, and ends one to a master of the past. */
export class SentinelConnector extends AbstractConnector {
  readonly #options: RedisOptions
  #acquired: ReturnType<typeof acquireWatch> | undefined

  constructor(options: unknown) {
    super((options as RedisOptions).disconnectTimeout ?? 100)
    this.#options = options as RedisOptions
  }

  async connect(): Promise<Socket | TLSSocket> {
    this.connecting = true
    this.#acquired ??= acquireWatch(this.#options)
    const { watch } = this.#acquired
    const master = await watch.find()
    // The client takes an error here for its end; with a socket that is closed it comes again.
    if (!this.connecting) return new Socket().destroy()
    if (master instanceof Error) {
      this.firstError = master
      return new Socket().destroy()
    }
    this.stream = this.#open(master)
    this.#follow(watch, master, this.stream)
    return this.stream
  }

  #open({ host, port }: Address): Socket | TLSSocket {
    const { tls, enableTLSForSentinelMode, family } = this.#options
    const at = { host, port, ...(family !== undefined && { family }) }
    if (!tls || !enableTLSForSentinelMode) return connectTcp(at)
    return connectTls({ ...at, ...withServerName(tls, host) })
  }

  #follow(watch: SentinelWatch, master: Address, stream: Socket): void {
    stream.once('error', error => {
      this.firstError = error
    })
    stream.once('connect', () => void watch.discover())
    // A frozen master keeps its connections for ever, and one that was cut off takes what nobody else will see.
    const unfollow = watch.follow(master, next =>
      stream.destroy(new Error(`the master is ${placeOf(next)} now, not ${placeOf(master)}`)),
    )
    stream.once('close', unfollow)
  }

  /** A server that was the master once may have become a replica before the Sentinels say so. */
  override check({ role }: { role?: string }): boolean {
    if (!role || role === 'master') return true
    const { remoteAddress: host = '', remotePort: port = 0 } = this.stream
    this.stream.destroy(new Error(`${placeOf({ host, port })} is no master but a ${role}: the Sentinels are behind`))
    return false
  }

  override disconnect(): void {
    this.#acquired?.release()
    this.#acquired = undefined
    super.disconnect()
  }
}

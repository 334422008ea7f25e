import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

const RATE_STEP = 20
const MAX_QUEUED = 64 * 1024
const UNHINDERED = { rate: undefined, isHeld: false }
/** A replica says so in one of the first things that it says. */
const GREETING = 8

type Item = { data: Buffer; due: number } | 'end' | 'closed'

/** One direction of a connection. What has been read and not yet written waits here, in order. */
class Flow {
  readonly #from: Socket
  readonly #to: Socket
  readonly #proxy: FaultProxy
  #queue: Item[] = []
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  #isFull = false
  #isStalled = false
  /** What happens to the proxy does not happen to this one. */
  isExempt = false

  constructor(from: Socket, to: Socket, proxy: FaultProxy) {
    this.#from = from
    this.#to = to
    this.#proxy = proxy
    from.on('data', data => this.#add({ data, due: Date.now() + (this.isExempt ? 0 : proxy.delay) }))
    from.on('end', () => this.#add('end'))
    from.on('close', () => this.#add('closed'))
    to.on('drain', () => {
      this.#isFull = false
      this.pump()
    })
  }

  set stalled(value: boolean) {
    this.#isStalled = value
    this.#balance()
    this.pump()
  }

  #add(item: Item): void {
    if (typeof item !== 'string') this.#bytes += item.data.length
    this.#queue.push(item)
    this.pump()
    this.#balance()
  }

  #balance(): void {
    if (this.#isStalled || this.#bytes > MAX_QUEUED) this.#from.pause()
    else if (this.#from.isPaused()) this.#from.resume()
  }

  pump(): void {
    clearTimeout(this.#timer)
    const { rate, isHeld } = this.isExempt ? UNHINDERED : this.#proxy
    let quota = rate === undefined ? Number.POSITIVE_INFINITY : (rate * RATE_STEP) / 1000
    while (this.#queue.length > 0 && !isHeld && !this.#isStalled && !this.#isFull) {
      const item = this.#queue[0]!
      if (typeof item === 'string') this.#finish(item)
      else {
        const wait = quota < 1 ? RATE_STEP : item.due - Date.now()
        if (wait > 0) {
          this.#timer = setTimeout(() => this.pump(), wait)
          break
        }
        quota -= this.#write(item, quota)
      }
    }
    this.#balance()
  }

  #finish(item: 'end' | 'closed'): void {
    this.#queue.shift()
    if (item === 'end') this.#to.end()
    else this.#to.destroy()
  }

  #write(item: { data: Buffer; due: number }, quota: number): number {
    const part = item.data.length <= quota ? item.data : item.data.subarray(0, Math.floor(quota))
    if (part === item.data) this.#queue.shift()
    else item.data = item.data.subarray(part.length)
    this.#bytes -= part.length
    this.#isFull = !this.#to.write(part)
    return part.length
  }

  drop(): void {
    clearTimeout(this.#timer)
    this.#queue = []
  }
}

interface Link {
  client: Socket
  server: Socket
  up: Flow
  down: Flow
  /** From a replica to its master. It is no link of ours: what happens to those leaves it alone, unless it is meant. */
  isReplication: boolean
}

const isOurs = ({ isReplication }: Link): boolean => !isReplication

/** Stands between two programs and does to their connections what networks do. */
export class FaultProxy {
  /** Where connections go. */
  target = 0
  /** Milliseconds that everything takes longer. */
  delay = 0
  /** Bytes a second and direction; undefined: as fast as it goes. */
  rate: number | undefined
  isRefusing = false
  readonly #server: Server
  readonly #links = new Set<Link>()
  #isHeld = false
  #dropping: ((reply: Buffer) => boolean) | undefined

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', socket => this.#accept(socket))
  }

  static async start(target = 0): Promise<FaultProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new FaultProxy(server)
    proxy.target = target
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connections(): number {
    return this.#links.size
  }

  #accept(client: Socket): void {
    if (this.isRefusing) return void reset(client.on('error', () => {}))
    const server = connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    // Before the flows: the reply that is dropped never enters one.
    server.on('data', data => this.#dropping?.(data) && cut(link))
    const [up, down] = [new Flow(client, server, this), new Flow(server, client, this)]
    const link: Link = { client, server, up, down, isReplication: false }
    this.#links.add(link)
    recognize(link)
    server.on('error', () => reset(client))
    client.on('error', () => reset(server))
    client.on('close', () => this.#links.delete(link))
  }

  /** Nothing passes; what is sent meanwhile comes later. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  set isHeld(value: boolean) {
    this.#isHeld = value
    this.pump()
  }

  pump(): void {
    for (const { up, down } of this.#links) {
      up.pump()
      down.pump()
    }
  }

  /** Resets connections: all, or those that `choose` says. */
  cut(choose: (link: Link) => boolean = isOurs): number {
    const chosen = [...this.#links].filter(choose)
    for (const link of chosen) cut(link)
    return chosen.length
  }

  /** What comes for some clients, or from them, is not taken from the socket any more; returns the way to end that. */
  stall(choose: (link: Link) => boolean, direction: 'down' | 'up' = 'down'): () => void {
    const chosen = [...this.#links].filter(choose)
    for (const link of chosen) link[direction].stalled = true
    return () => {
      for (const link of chosen) link[direction].stalled = false
    }
  }

  /** Replicas are sent nothing from now on; returns the way to end that. */
  holdReplication(): () => void {
    return this.stall(({ isReplication }) => isReplication)
  }

  /** The next reply that matches is lost together with its connection; resolves when that happened. */
  dropReply(matches: (reply: Buffer) => boolean): { dropped: Promise<void>; cancel(): void } {
    let resolve = () => {}
    const dropped = new Promise<void>(done => {
      resolve = done
    })
    const cancel = () => {
      this.#dropping = undefined
      resolve()
    }
    this.#dropping = reply => {
      if (!matches(reply)) return false
      cancel()
      return true
    }
    return { dropped, cancel }
  }

  close(): void {
    this.#server.close()
    this.cut(() => true)
  }
}

function recognize(link: Link): void {
  let heard = 0
  const listen = (data: Buffer) => {
    if (data.includes('REPLCONF')) for (const flow of [link.up, link.down]) flow.isExempt = true
    link.isReplication = link.up.isExempt
    if (link.isReplication || ++heard === GREETING) link.client.off('data', listen)
  }
  link.client.on('data', listen)
}

function cut({ client, server, up, down }: Link): void {
  for (const flow of [up, down]) flow.drop()
  for (const socket of [client, server]) {
    socket.removeAllListeners('data')
    reset(socket)
  }
}

/** With a shutdown under way libuv refuses to reset, Node 20 takes no notice, and the process never ends. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}

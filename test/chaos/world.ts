import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram } from '../helpers/programs.ts'
import { Child } from './child.ts'
import type { IngressKind } from './ingress.ts'
import { Journal } from './journal.ts'
import type { NodeConfig } from './node.ts'
import { FaultProxy } from './proxy.ts'
import { type QueueLinks, Queues, RunQueues } from './queues.ts'
import { createStore, type Store, type Topology } from './store.ts'
import { retentionOf, TOPICS } from './topics.ts'

export interface WorldOptions {
  seed: number
  topology: Topology
  nodes: number
  clients: number
  /** Clients that come and go, and look at who is there. */
  visitors: number
  lanes: number
  pace: number
  /** Where the programs lie, bundled. */
  programs: string
  withPhp: boolean
  /** The queues through which publications come in, too. */
  ingress: readonly IngressKind[]
  /** What is not in Redis of them; without it there is none. */
  queues?: Queues | undefined
}

const START = 60_000
/** What `app.close()` may take, and a little. */
const EXIT = 8000

/** One node, the proxy before it and the one between it and Redis. */
export interface NodeSlot {
  index: number
  child: Child
  clientLink: FaultProxy
  redisLink: FaultProxy
  queueLinks: QueueLinks
  /** Set while a fault has it. */
  isTaken: boolean
}

/** Everything that runs: Redis, nodes, publishers, clients and the proxies between them. */
export class World {
  readonly folder: string
  readonly options: WorldOptions
  readonly journal: Journal
  readonly nodes: NodeSlot[] = []
  readonly queues: RunQueues
  store!: Store
  publisherLink!: FaultProxy
  clients!: Child
  publishers!: Child
  #php: Child | undefined
  #isClosed = false
  readonly #ends: (() => unknown)[] = []

  constructor(options: WorldOptions) {
    this.options = options
    const { queues = new Queues(), ingress, seed } = options
    const isOrdered = seed % 2 === 1
    this.queues = new RunQueues(queues, ingress, isOrdered)
    this.folder = mkdtempSync(join(tmpdir(), `push-chaos-${options.seed}-`))
    mkdirSync(join(this.folder, 'redis'))
    this.journal = new Journal(this.file('controller.jsonl'))
  }

  file(name: string): string {
    return join(this.folder, name)
  }

  #program(name: string, config: object, output = `${name}.out`): Child {
    const { programs } = this.options
    const args = ['--enable-source-maps', join(programs, `${name}.js`)]
    return new Child(name, process.execPath, args, { output: this.file(output), config })
  }

  async start(): Promise<void> {
    this.store = await createStore(this.options.topology, this.folder, this.journal)
    this.#ends.push(() => this.store.close())
    await this.queues.open()
    this.#ends.push(() => this.queues.close())
    for (let index = 0; index < this.options.nodes; index++) await this.#addNode(index)
    await Promise.all(this.nodes.map(slot => this.startNode(slot)))
    const urls = await this.#entrances()
    this.publisherLink = await this.#proxy(this.store.port)
    const { seed, lanes, pace, clients, visitors } = this.options
    this.clients = this.#program('clients', {
      urls: urls.map(url => `ws${url}`),
      count: clients,
      visitors,
      seed,
      journal: this.file('clients.jsonl'),
      visitorsJournal: this.file('visitors.jsonl'),
    })
    this.#ends.push(() => this.clients.kill())
    await this.clients.hear('ready', START)
    this.publishers = this.#program('publishers', {
      redis: this.store.sourceThrough(this.publisherLink),
      ingress: this.queues.configOf(await this.queues.connect()),
      urls: urls.map(url => `http${url}`),
      seed,
      lanes,
      pace,
      journal: this.file('publishers.jsonl'),
    })
    this.#ends.push(() => this.publishers.kill())
    await this.publishers.hear('ready', START)
    if (this.options.withPhp) this.#startPhp()
  }

  #startPhp(): void {
    const script = new URL('./publish.php', import.meta.url).pathname
    const retentions = Object.fromEntries(
      TOPICS.filter(topic => !topic.endsWith('bulk')).map(topic => {
        const { size, ttl } = retentionOf(topic)
        return [topic, [size, ttl]]
      }),
    )
    const { seed, pace } = this.options
    const args = [
      script,
      this.store.phpAddress,
      this.file('php.jsonl'),
      `${pace}`,
      `${seed}`,
      JSON.stringify(retentions),
    ]
    this.#php = new Child('php', findProgram('php')!, args, { output: this.file('php.out') })
    this.#ends.push(() => this.#php!.kill())
  }

  async #proxy(target = 0): Promise<FaultProxy> {
    const proxy = await FaultProxy.start(target)
    this.#ends.push(() => proxy.close())
    return proxy
  }

  async #addNode(index: number): Promise<void> {
    const [clientLink, redisLink] = [await this.#proxy(), await this.#proxy(this.store.port)]
    const queueLinks = await this.queues.connect()
    const slot = { index, clientLink, redisLink, queueLinks, isTaken: false, child: undefined as unknown as Child }
    this.nodes.push(slot)
    this.#ends.push(() => slot.child.kill())
  }

  async startNode(slot: NodeSlot): Promise<void> {
    if (this.#isClosed) return
    const config: NodeConfig = {
      redis: this.store.sourceThrough(slot.redisLink),
      ingress: this.queues.configOf(slot.queueLinks),
      slowConsumer: slot.index === 2 ? 'drop' : 'close',
      journal: this.file(`node-${slot.index}.jsonl`),
    }
    slot.child = this.#program('node', config, `node-${slot.index}.out`)
    const { port, node } = await slot.child.hear('ready', START)
    slot.clientLink.target = port as number
    this.journal.write({ e: 'node', index: slot.index, node })
  }

  /** SIGTERM, as in a rolling restart; true when the node left in time. */
  async stopNode({ child }: NodeSlot): Promise<boolean> {
    const timer = setTimeout(() => void child.kill(), EXIT)
    child.signal('SIGTERM')
    const code = await child.exited
    clearTimeout(timer)
    return code === 0
  }

  /** Addresses, without the protocol, at which clients and publishers knock. */
  async #entrances(): Promise<string[]> {
    const ports = this.nodes.map(({ clientLink }) => clientLink.port)
    if (this.options.topology !== 'nginx') return ports.map(port => `://127.0.0.1:${port}`)
    const { startNginx } = await import('./nginx.ts')
    const { port, child } = await startNginx(this.folder, ports)
    this.#ends.push(() => child.kill())
    return [`://127.0.0.1:${port}`]
  }

  /** No publisher begins another publication; those under way come to an end. */
  async endPublishing(): Promise<void> {
    this.#php?.process.stdin?.end()
    await Promise.all([this.publishers.ask({ e: 'stop' }, 'stopped', START), this.#php?.exited])
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.journal.close()
    for (const end of this.#ends.reverse()) await end()
  }

  forget(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

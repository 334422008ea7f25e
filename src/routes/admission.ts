import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Entrance } from '../bridge.ts'
import { RareLine } from '../broker/rare-line.ts'
import type { Identity } from '../connection/identity.ts'
import { NOTHING_HELD, type Since } from '../delivery/recovery.ts'
import { checkAuthentication, type Identified, identityFrom } from '../node/authentication.ts'
import { authorizeSubscribe } from '../node/authorization.ts'
import type { Hub } from '../node/hub.ts'
import { MessageIdentities, takesMessages, unexpired } from '../node/identities.ts'
import type { RefusalNotes } from '../node/monitoring/refusal-notes.ts'
import { redeemTicket } from '../node/tickets.ts'
import type { Options } from '../options/options.ts'
import { errors, type PushError } from '../protocol/errors.ts'
import { CLOSE } from '../protocol/messages.ts'
import { nameProblem, ownTopics, type Topic } from '../protocol/topic.ts'
import { Addresses, addressOf } from './addresses.ts'
import { UpgradeGate } from './upgrade-gate.ts'

/** What a client asked for in the URL. */
export interface Visit {
  /** The rest of the URL path after `path`. */
  channel: string
  /** The last id that the client holds of each topic. */
  since: Since
  /** Undefined if it is not limited by address. */
  address: string | undefined
}

export interface Admitted extends Identified {
  since: Since
  address: string | undefined
}

/** Decides whether an upgrade request becomes a connection, and whose. */
export class Admission {
  readonly addresses: Addresses
  readonly gate: UpgradeGate
  readonly #hub: Hub
  readonly #options: Options
  readonly #messages: MessageIdentities
  readonly #crowded: RareLine
  /** The last origin that matched its host: most pages have the same one, and parsing takes time. */
  #ownPage = { origin: '', host: '' }

  constructor(hub: Hub, options: Options, log: Pick<FastifyBaseLogger, 'warn'>) {
    this.#hub = hub
    this.#options = options
    this.#messages = new MessageIdentities(hub.broker, options)
    this.addresses = new Addresses(options.limits)
    this.gate = new UpgradeGate(options.limits, refusal => this.refused(refusal))
    this.#crowded = new RareLine((fields, more) =>
      log.warn({ ...fields, more }, 'push: an address has too many connections or upgrades; is it a proxy?'),
    )
  }

  status(): Entrance {
    return { limits: this.#options.limits, pendingUpgrades: this.gate.pending, addresses: this.addresses.size }
  }

  /** Topics that clients asked for and did not get. */
  get refusals(): RefusalNotes {
    return this.#hub.refusals
  }

  refused({ code }: PushError): void {
    this.#hub.metrics.count('upgrades_refused_total', 1, code)
  }

  /** Counts the upgrade for its address, before anybody is asked who it is. Returns why it is refused, or undefined. */
  enter(request: FastifyRequest): PushError | undefined {
    const address = addressOf(request)
    const refusal = address === undefined ? undefined : this.addresses.enter(address)
    if (refusal) this.#crowded.tell({ address, code: refusal.code })
    return refusal
  }

  /**
   * `channel` is the rest of the URL path after `path`. Throws a PushError that says why the request is refused. A visit is
   * what has no identity yet: the first message says it.
   */
  async admit(request: FastifyRequest, channel: string): Promise<Admitted | Visit> {
    this.#checkNode()
    this.#checkOrigin(request)
    const visit = { channel, since: sinceOf(request), address: addressOf(request) }
    const identified = await this.#identify(request)
    return identified === 'message' ? visit : this.#admitAs(unexpired(identified), visit)
  }

  /** The first message of a visit came. Throws a PushError that says why it is refused. */
  async admitLater(payload: unknown, visit: Visit): Promise<Admitted> {
    return this.#admitAs(await this.#messages.of(payload, undefined), visit)
  }

  async #admitAs({ identity, topics }: Identified, { channel, since, address }: Visit): Promise<Admitted> {
    this.checkUser(identity)
    await this.#hub.revocations.check(identity)
    const admitted = { identity, topics, since, address }
    if (channel === '') return admitted
    // A new list: authenticate() may return the same one for other connections.
    return { ...admitted, topics: [...topics, await this.#channelTopic(identity, topics, channel, since)] }
  }

  /** Throws when there is no room for the connection. Checked again after the upgrade: authenticate() may take long. */
  checkRoom(comer: Admitted | Visit): void {
    this.#checkNode()
    const crowd = comer.address === undefined ? undefined : this.addresses.fullness(comer.address)
    if (crowd) throw crowd
    if ('identity' in comer) this.checkUser(comer.identity)
  }

  checkUser(identity: Identity): void {
    const { userConnections } = this.#options.limits
    if (this.#hub.registry.countOf(identity.user, userConnections) >= userConnections) {
      this.#hub.delivery.limitNotes.add([`user:${identity.user}`], 'user_connections')
      throw new errors.USER_CONNECTIONS(
        `this user already has ${userConnections} connections on this node (limits.userConnections)`,
      )
    }
  }

  #checkNode(): void {
    if (this.#hub.isDraining) throw new errors.DRAINING()
    if (this.#hub.isFull) {
      throw new errors.FULL(
        `this node already has ${this.#options.limits.connections} connections (limits.connections)`,
      )
    }
  }

  #checkOrigin(request: FastifyRequest): void {
    const { origin } = request.headers
    if (origin === undefined || this.admitsOrigin(origin, request.host)) return
    const { origins } = this.#options
    const remedy = origins
      ? `add it to the option origins, which has ${origins.join(', ') || 'none'}`
      : `the request is for host ${request.host}: list the page's origin in the option origins, or, behind nginx, send the right host with "proxy_set_header Host $http_host;"`
    request.log.warn({ origin, host: request.host }, `push: origin ${origin} may not connect; ${remedy}`)
    throw new errors.ORIGIN(`origin ${origin} may not connect`)
  }

  /** Whether pages of `origin` may connect. */
  admitsOrigin(origin: string, host: string): boolean {
    const { origins } = this.#options
    return origins ? origins.includes('*') || origins.includes(origin) : this.#isOwnPage(origin, host)
  }

  #isOwnPage(origin: string, host: string): boolean {
    if (origin === this.#ownPage.origin && host === this.#ownPage.host) return true
    const isOwn = isSameHost(origin, host)
    if (isOwn) this.#ownPage = { origin, host }
    return isOwn
  }

  async #identify(request: FastifyRequest): Promise<Identified | 'message'> {
    const { authenticate } = this.#options.callbacks
    const ticket = ticketOf(request)
    if (this.#options.tickets && (ticket !== undefined || !authenticate)) return this.#redeem(ticket)
    if (!authenticate) return checkAuthentication({}, 'authenticate()')
    const giver = this.#options.events?.http?.connect ? 'the backend' : 'authenticate()'
    const given = await identityFrom(() => authenticate(request), giver)
    if (given !== 'message') return checkAuthentication(given, giver)
    if (takesMessages(this.#options)) return given
    throw new TypeError(`${giver} gave "message": for that, set tickets: true or give onAuthenticate`)
  }

  async #redeem(ticket: string | undefined): Promise<Identified> {
    if (!ticket) throw new errors.UNAUTHENTICATED('a ticket is needed: connect with ?ticket=…')
    return redeemTicket(this.#hub.broker, ticket)
  }

  async #channelTopic(identity: Identity, join: readonly Topic[], channel: string, since: Since): Promise<Topic> {
    const problem = nameProblem(channel)
    if (problem) throw new errors.TOPIC(`the channel name in the path ${problem}`)
    const topic: Topic = `channel:${channel}`
    const topics = new Set([...ownTopics(identity.id, identity.user), ...join])
    const { authorize } = this.#options.callbacks
    const granting = authorizeSubscribe(authorize, { ...identity, topics }, topic, since.get(topic))
    await this.refusals.watch({ user: identity.user }, topic, granting)
    return topic
  }
}

/** Too much for now: whoever comes again later may get in. */
export function isTransient({ statusCode }: Pick<PushError, 'statusCode'>): boolean {
  return statusCode === 429 || statusCode === 503
}

/** The close code that a page gets instead of an HTTP status. */
export function closeCodeOf({ statusCode }: PushError): number {
  if (statusCode === 401) return CLOSE.UNAUTHENTICATED
  if (statusCode === 403) return CLOSE.FORBIDDEN
  if (isTransient({ statusCode })) return CLOSE.TRY_LATER
  return statusCode < 500 ? CLOSE.BAD_MESSAGE : CLOSE.INTERNAL
}

/** Whether Origin and Host name the same host and port. A missing port is the default of the origin's scheme. */
function isSameHost(origin: string, host: string): boolean {
  try {
    const { protocol, host: originHost } = new URL(origin)
    return /^https?:$/.test(protocol) && new URL(`${protocol}//${host}`).host === originHost
  } catch {
    return false
  }
}

function ticketOf(request: FastifyRequest): string | undefined {
  const { ticket } = request.query as { ticket?: unknown }
  return typeof ticket === 'string' ? ticket : undefined
}

/** `since={"user:42":"<id>"}` in the URL: the last ids, for topics that a connection has without asking. */
function sinceOf(request: FastifyRequest): Since {
  const { since } = request.query as { since?: unknown }
  if (since === undefined) return NOTHING_HELD
  const ids = parseObject(since)
  if (!ids || !Object.values(ids).every(id => typeof id === 'string')) {
    throw new errors.BAD_MESSAGE('since in the URL must be a JSON object such as {"user:42":"<id>"}')
  }
  return new Map(Object.entries(ids)) as Since
}

function parseObject(text: unknown): object | undefined {
  try {
    const value = JSON.parse(String(text))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

import type { Broker } from '../broker/broker.ts'
import type { Identity, PushConnection } from '../connection/identity.ts'
import { isExpired } from '../connection/identity.ts'
import type { Options } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { checkAuthentication, type Identified, identityFrom } from './authentication.ts'
import { redeemTicket } from './tickets.ts'

/** Whether a client can say with a message who it is. */
export function takesMessages({ tickets, callbacks }: Pick<Options, 'tickets' | 'callbacks'>): boolean {
  return tickets || callbacks.onAuthenticate !== undefined
}

/** What an `authenticate` message says: who a connection is. */
export class MessageIdentities {
  readonly #broker: Pick<Broker, 'takeTicket'>
  readonly #options: Pick<Options, 'tickets' | 'callbacks'>

  constructor(broker: Pick<Broker, 'takeTicket'>, options: Pick<Options, 'tickets' | 'callbacks'>) {
    this.#broker = broker
    this.#options = options
  }

  /** `connection` is absent if nobody knows yet whose it is. Throws a PushError if the payload is not accepted. */
  async of(payload: unknown, connection: PushConnection | undefined): Promise<Identified> {
    const { tickets, callbacks } = this.#options
    const { onAuthenticate } = callbacks
    const { ticket } = (payload ?? {}) as { ticket?: unknown }
    if (tickets && typeof ticket === 'string') return unexpired(await redeemTicket(this.#broker, ticket))
    if (!onAuthenticate) {
      throw tickets
        ? new errors.UNAUTHENTICATED('payload.ticket is missing: send {"ticket":"…"}')
        : new errors.UNSUPPORTED('this server takes no authenticate message')
    }
    const given = await identityFrom(() => onAuthenticate(payload as never, connection), 'onAuthenticate()')
    return unexpired(checkAuthentication(given, 'onAuthenticate()'))
  }
}

export function unexpired<I extends { identity: Identity }>(identified: I): I {
  if (isExpired(identified.identity, Date.now())) throw new errors.UNAUTHENTICATED('the identity has expired')
  return identified
}

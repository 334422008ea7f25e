import { Type } from 'typebox'

const amount = (defaultValue: number, description: string) =>
  Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, default: defaultValue, description })

/** Limits on who comes in, and how often: part of the option `limits`. */
export const ADMISSION_LIMITS = {
  userConnections: amount(100, 'maximum connections of one user on this node'),
  addressConnections: amount(5000, 'maximum connections of one address on this node, of an IPv6 address by its /64'),
  upgrades: amount(2000, 'upgrades a second on this node, twice as many in a burst'),
  addressUpgrades: amount(200, 'upgrades a second of one address, twice as many in a burst'),
  pendingUpgrades: amount(5000, 'upgrades that may be unfinished at the same time'),
  userTickets: amount(100, 'newest tickets of one user that can be spent; older ones end'),
  handlerTime: Type.Integer({
    minimum: 1,
    maximum: 2 ** 31 - 1,
    default: 30_000,
    description: 'how long a client message may be handled until it is answered with an error, in milliseconds',
  }),
}

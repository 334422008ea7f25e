import type { PresenceStore } from '../../broker/presence.ts'
import { errors } from '../../protocol/errors.ts'
import type { Member } from '../../protocol/presence.ts'
import { nameProblem, type Topic, topicProblem } from '../../protocol/topic.ts'

/** A page of who is on a topic. */
export interface Members {
  topic: string
  /** Users. */
  count: number
  anonymous: number
  members: Member[]
  /** Give it to the next call for the next page; absent at the end. */
  cursor?: string
}

/** Which page: `cursor` of the page before, and about how many users, up to 1,000. */
export interface MembersQuery {
  cursor?: string | undefined
  count?: number | undefined
}

/** A user, as the nodes know it. */
export interface OnlineUser {
  user: string
  online: boolean
  connections: { id: string; node: string; since: number }[]
  /** How many connections there are; the list has at most 100 of each node. */
  count: number
  since?: number
  info?: unknown
}

const MAX_PAGE = 1000
const PAGE = 100

/** Rejects with a PushError for a topic or page that cannot be, and while the broker is away. */
export async function readMembers(
  store: Pick<PresenceStore, 'members'>,
  topic: string,
  { cursor = '0', count = PAGE }: MembersQuery = {},
): Promise<Members> {
  const problem = topicProblem(topic)
  if (problem) throw new errors.TOPIC(problem)
  if (!/^\d{1,20}$/.test(cursor)) throw new errors.FIELD('cursor is not that of another page')
  if (!Number.isInteger(count) || count < 1 || count > MAX_PAGE) {
    throw new errors.FIELD(`count is not a whole number from 1 to ${MAX_PAGE}`)
  }
  const page = await store.members(topic as Topic, cursor, count)
  const { count: users, anonymous, members } = page
  const next = page.cursor === '0' ? {} : { cursor: page.cursor }
  return { topic, count: users, anonymous, members: [...members], ...next }
}

/** Whether `user` is online, and on which connections. */
export async function readUser(store: Pick<PresenceStore, 'member'>, user: string): Promise<OnlineUser> {
  const problem = typeof user === 'string' ? nameProblem(user) : 'is not a string'
  if (problem) throw new errors.FIELD(`the user ${problem}`)
  const { member, owners } = await store.member('all', user)
  if (!member) return { user, online: false, connections: [], count: 0 }
  const connections = owners.flatMap(({ owner, ids }) => ids.map(([id, since]) => ({ id, node: nodeOf(owner), since })))
  const { connections: count, since, info } = member
  return { user, online: true, connections, count, since, ...(info !== undefined && { info }) }
}

function nodeOf(owner: string): string {
  return owner.slice(0, owner.lastIndexOf('.'))
}

import { CHANNELS, ROOMS, USERS } from '../topics.ts'

/** Without the two that keep little: the peers keep nothing that could be trimmed. */
export const TOPICS = ['all', ...ROOMS, ...CHANNELS, ...USERS]

/** What the nodes of the peers are given. */
export interface PeerNodeConfig {
  redis: string
}

export interface Push {
  to: string
  type: string
  payload: { k: string }
}

/** How a client of a peer says what it wants. */
export function topicsOf(url: string): string[] {
  const topics = new URL(url, 'http://localhost').searchParams.get('topics')
  return topics?.split(',').filter(Boolean) ?? []
}

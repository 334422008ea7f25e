/** What is published and how much of it is kept: the same for nodes, publishers and judge. */
export const ROOMS = ['channel:room0', 'channel:room1', 'channel:room2', 'channel:room3']
export const CHANNELS = ['channel:t0', 'channel:t1', 'channel:t2', 'channel:t3', 'channel:t4', 'channel:t5']
export const USERS = ['user:u0', 'user:u1', 'user:u2', 'user:u3', 'user:u4', 'user:u5']
/** Keeps so little that a return finds it trimmed now and then. */
export const SMALL = 'channel:small'
/** Large messages: they fill the buffers of whoever does not read. */
export const BULK = 'channel:bulk'
/** Topics with presence, for visitors. */
export const LOBBIES = ['channel:lobby0', 'channel:lobby1']
/** Milliseconds of the presence rules. */
export const GRACE = 1000
export const LEASE = 3000
export const TOPICS = ['all', ...ROOMS, ...CHANNELS, ...USERS, SMALL, BULK]

export const BULK_BYTES = 100_000

export const HISTORY = {
  [SMALL]: { size: 25, ttl: 600 },
  [BULK]: { size: 100, ttl: 600 },
  'channel:*': { size: 5000, ttl: 600 },
  'user:*': { size: 5000, ttl: 600 },
  all: { size: 5000, ttl: 600 },
}

export function retentionOf(topic: string): { size: number; ttl: number } {
  if (topic === SMALL || topic === BULK) return HISTORY[topic]!
  return HISTORY.all
}

export const API_KEY = 'key-of-the-chaos-tests'

/** What a payload is known by: the publisher's note of it and the client's must be equal. */
export interface Payload {
  k: string
  pad: string
}

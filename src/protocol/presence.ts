/** A user on a topic. */
export interface Member {
  user: string
  /** How many connections of the user have the topic, on all nodes. */
  connections: number
  /** When the first of them came, in milliseconds since 1970. */
  since: number
  /** What `authenticate` or the application made public about the user, if the rule for the topic shows it. */
  info?: unknown
}

/** How many users and anonymous connections are on a topic. */
export interface PresenceCount {
  /** Users. */
  count: number
  anonymous: number
}

/**
 * `push.presence` from the server, and `presence` in `subscribed`. A list begins with `members`, and goes on with the next
 * messages while `more` is true. Afterwards come changes. `partial`: there are too many for a list, so only the numbers are
 * told, and `members` has some of them.
 */
export interface PresenceMessage extends PresenceCount {
  topic: string
  members?: Member[]
  /** The list continues the one before. */
  continued?: boolean
  more?: boolean
  partial?: boolean
  joined?: Member[]
  updated?: Member[]
  left?: string[]
}

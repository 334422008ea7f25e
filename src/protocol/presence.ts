import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'

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

const MemberSchema = Type.Object(
  {
    user: Type.String(),
    connections: Type.Integer({ minimum: 0 }),
    since: Type.Integer(),
    info: Type.Optional(Type.Unknown()),
  },
  { additionalProperties: false },
)

/** A change of who is on a topic, as the broker tells it to the nodes that hold the topic. */
export const PresenceDeltaSchema = Type.Object(
  {
    control: Type.Literal('presence'),
    /** Changes when the list began anew, because the broker lost it. */
    epoch: Type.String({ minLength: 1, maxLength: 64 }),
    /** One more than that of the change before. */
    version: Type.Integer({ minimum: 1 }),
    count: Type.Integer({ minimum: 0 }),
    anonymous: Type.Integer({ minimum: 0 }),
    joined: Type.Optional(Type.Array(MemberSchema)),
    updated: Type.Optional(Type.Array(MemberSchema)),
    left: Type.Optional(Type.Array(Type.String())),
  },
  { additionalProperties: false },
)

export type PresenceDelta = Omit<Static<typeof PresenceDeltaSchema>, 'control'>

const check = Compile(PresenceDeltaSchema)

export function isPresenceDelta(value: unknown): value is PresenceDelta {
  return check.Check(value)
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

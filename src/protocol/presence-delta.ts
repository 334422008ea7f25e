import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'

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
const PresenceDeltaSchema = Type.Object(
  {
    control: Type.Literal('presence'),
    /** Changes when the list began anew, because the broker lost it. */
    epoch: Type.String({ minLength: 1, maxLength: 64 }),
    /** One more than that of the change before. */
    version: Type.Integer({ minimum: 1 }),
    /** What tells it from another change with this version, which a master made that was replaced. */
    mark: Type.String({ maxLength: 64 }),
    /** The mark of the change before it; empty if there was none. */
    after: Type.String({ maxLength: 64 }),
    count: Type.Integer({ minimum: 0 }),
    anonymous: Type.Integer({ minimum: 0 }),
    joined: Type.Optional(Type.Array(MemberSchema)),
    updated: Type.Optional(Type.Array(MemberSchema)),
    left: Type.Optional(Type.Array(Type.String())),
  },
  { additionalProperties: false },
)

export type PresenceDelta = Omit<Static<typeof PresenceDeltaSchema>, 'control'>

/** Nodes write up to this much at once, however little a publication may have. */
export const MAX_DELTA_BYTES = 256 * 1024

const BEGINNING = Buffer.from('{"control":"presence"')

/** Whether an envelope looks like a change of who is on its topic. */
export function looksLikeDelta(memory: Uint8Array, start = 0, end = memory.length): boolean {
  const until = start + BEGINNING.length
  return until < end && BEGINNING.compare(memory, start, until) === 0
}

const check = Compile(PresenceDeltaSchema)

export function isPresenceDelta(value: unknown): value is PresenceDelta {
  return check.Check(value)
}

import type { Replacement } from './build.ts'
import type { IngressKind } from './ingress.ts'
import type { FaultKind } from './schedule.ts'
import type { Invariant } from './verdict.ts'

/** A product that is broken in one way, and what the judge must say of it. */
export interface Mutant {
  name: string
  replacements: Replacement[]
  /** Faults that bring it to light. */
  kinds: FaultKind[]
  /** Any of these is the right word for it. */
  caughtAs: Invariant[]
  /** The queue that it takes; default: those that were asked for. */
  ingress?: IngressKind
}

export const GAP_FILLER = 'src/broker/redis/gap-filler.ts'

/** What names another one before it than was delivered last is delivered all the same. */
export const CHAIN_IGNORED: Replacement = {
  file: GAP_FILLER,
  find: '} else if (!cursor.last || follows(cursor.last, position, previous)) {',
  replace: '} else if (!cursor.last || !isCovered(position, cursor.last)) {',
}

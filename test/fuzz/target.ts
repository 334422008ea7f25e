import type { World } from './world.ts'

/** What became of the inputs of a target. */
export interface Ran {
  inputs: number
  outcomes: Record<string, number>
  /** By how much counters of the node must have grown. */
  counts: Count[]
  problems: string[]
}

export interface Count {
  counter: string
  reason?: string
  /** This reason does not count. */
  except?: string
  /** What the node counts and no client sees, since its connection was over when the answer came: codes that count too. */
  unseen?(code: string): boolean
  /** At least and at most: equal unless some outcomes could not be seen. */
  least: number
  most: number
}

/** Begins the notes of a node about answers that nobody got; the code follows. */
export const UNSEEN = 'unseen '

/** Throws `count` inputs at the node, or fewer when `isOver` says so. */
export type Target = (world: World, count: number, isOver: () => boolean) => Promise<Ran>

/** A report has to be read. */
const MAX_OUTCOMES = 40

/** Counts outcomes, and keeps the first problems in words. */
export class Findings {
  readonly outcomes: Record<string, number> = {}
  readonly problems: string[] = []
  inputs = 0

  saw(outcome: string, by = 1): void {
    const isKnown = outcome in this.outcomes || Object.keys(this.outcomes).length < MAX_OUTCOMES
    const name = isKnown ? outcome : 'other'
    this.outcomes[name] = (this.outcomes[name] ?? 0) + by
  }

  problem(sentence: string): void {
    this.saw('PROBLEM')
    if (this.problems.length < 10) this.problems.push(sentence.slice(0, 600))
  }

  of(counts: Count[]): Ran {
    return { inputs: this.inputs, outcomes: this.outcomes, counts, problems: this.problems }
  }
}

/** Runs `one` again and again, `width` at the same time, until there were `count` or it is over. */
export async function times(
  count: number,
  { width, isOver }: { width: number; isOver(): boolean },
  one: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count && !isOver()) await one(next++)
  }
  await Promise.all(Array.from({ length: width }, worker))
}

/** Seeds that once failed, and what they found. */
export const REGRESSIONS: readonly { seed: number; found: string }[] = []

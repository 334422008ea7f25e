import type { Result } from './report.ts'

/** How the medians of one peer compare with those of others, as lines of a list: `what` says which metrics, and their names. */
export function ratios(results: Result[], peer: string, others: string[], what: Record<string, string>): string[] {
  const medianOf = (name: string) => results.find(result => result.peer === name)?.median
  const own = medianOf(peer)
  return others.flatMap(other => {
    const its = medianOf(other)
    if (!own || !its) return []
    const parts = Object.entries(what).map(([key, label]) => `${label} ${quotient(own[key], its[key])}`)
    return [`- ${peer} ÷ ${other}: ${parts.join(', ')}`]
  })
}

function quotient(value: number | undefined, by: number | undefined): string {
  return value === undefined || !by ? '–' : (value / by).toFixed(2)
}

export function middleOf(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** The standard error of the mean; NaN of fewer than two. */
export function errorOf(values: readonly number[]): number {
  const mean = meanOf(values)
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return Math.sqrt(squares / (values.length - 1) / values.length)
}

/** Between two values it is in proportion. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) return Number.NaN
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const below = Math.floor(at)
  const above = Math.ceil(at)
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (at - below)
}

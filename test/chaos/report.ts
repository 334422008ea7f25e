import type { Tally, Verdict, Violation } from './verdict.ts'

const SHOWN = 12

export function lineOf({ seed, violations, tally, folder }: Verdict): string {
  const counts = `${tally.acknowledged} acknowledged, ${tally.delivered} deliveries, settled in ${tally.settled ?? '-'} ms`
  if (violations.length === 0) return `seed ${seed}: ok, ${counts}`
  return `seed ${seed}: ${violations.length} VIOLATIONS, ${counts}, logs in ${folder}\n${listOf(violations)}`
}

function listOf(violations: readonly Violation[]): string {
  const kinds = new Map<string, Violation[]>()
  for (const violation of violations)
    kinds.set(violation.invariant, [...(kinds.get(violation.invariant) ?? []), violation])
  const lines = [...kinds].flatMap(([invariant, list]) => [
    `  ${invariant}: ${list.length}`,
    ...list.slice(0, SHOWN / kinds.size + 1).map(({ what }) => `    ${what.slice(0, 400)}`),
  ])
  return lines.join('\n')
}

export function reportOf(verdicts: readonly Verdict[]): string {
  const tallies = verdicts.map(({ tally }) => tally)
  const sum = (field: 'acknowledged' | 'delivered' | 'filled') =>
    tallies.reduce((total, tally) => total + tally[field], 0)
  const failed = verdicts.filter(({ violations }) => violations.length > 0)
  const violations = failed.reduce((total, verdict) => total + verdict.violations.length, 0)
  return [
    `seeds            ${verdicts.length}, of which failed: ${failed.map(({ seed }) => seed).join(' ') || 'none'}`,
    `violations       ${violations}`,
    `acknowledged     ${sum('acknowledged')}`,
    `through queues   ${countsOf(tallies, 'queued') || 'none'}`,
    `deliveries       ${sum('delivered')} judged`,
    `faults           ${countsOf(tallies, 'faults')}`,
    `recoveries       ${countsOf(tallies, 'recoveries')}`,
    `gaps told        ${countsOf(tallies, 'gaps') || 'none'}`,
    `filled by nodes  ${sum('filled')}`,
    `reconnected in   ${percentiles(tallies.flatMap(({ reconnects }) => reconnects))}`,
    `settled in       ${percentiles(tallies.flatMap(({ settled }) => settled ?? []))}`,
    `presence         ${total(tallies, 'joined')} joined, ${total(tallies, 'left')} left, as told`,
    `known in         ${percentiles(tallies.flatMap(({ presenceSettled }) => presenceSettled ?? []))}`,
  ].join('\n')
}

function total(tallies: readonly Tally[], what: 'joined' | 'left'): number {
  return tallies.reduce((sum, { presence }) => sum + presence[what], 0)
}

function countsOf(tallies: readonly Tally[], field: 'faults' | 'recoveries' | 'gaps' | 'queued'): string {
  const totals = new Map<string, number>()
  for (const tally of tallies) {
    for (const [key, count] of Object.entries(tally[field])) totals.set(key, (totals.get(key) ?? 0) + count)
  }
  const sorted = [...totals].sort(([, a], [, b]) => b - a)
  const total = sorted.reduce((all, [, count]) => all + count, 0)
  return sorted.length > 0 ? `${total}: ${sorted.map(([key, count]) => `${key} ${count}`).join(', ')}` : ''
}

function percentiles(values: number[]): string {
  if (values.length === 0) return '-'
  const sorted = values.sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${sorted.at(-1)} ms (${sorted.length})`
}

import type { Column, Metrics, Outcome, Scenario } from './scenario.ts'

/** All runs of one peer in one variant of one scenario. */
export interface Result {
  scenario: string
  variant: string
  peer: string
  runs: Outcome[]
  /** runs that failed altogether: the reason */
  failures: string[]
  median: Metrics | undefined
}

export function median(runs: Outcome[]): Metrics | undefined {
  const first = runs[0]
  if (!first) return undefined
  const metrics: Metrics = { complete: 0 }
  for (const key of Object.keys(first.metrics)) metrics[key] = middle(runs.map(run => run.metrics[key] ?? 0))
  return metrics
}

function middle(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/** A Markdown table, so that it can go into a README as it is. */
export function table(scenario: Scenario, variant: string, results: Result[]): string {
  const header = ['peer', ...scenario.columns.map(column => column.label), 'complete']
  const rows = results.map(result => [result.peer, ...cells(scenario.columns, result)])
  const widths = header.map((label, index) => Math.max(label.length, ...rows.map(row => row[index]!.length)))
  const line = (cellsOf: string[]) =>
    `| ${cellsOf.map((cell, index) => (index === 0 ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!))).join(' | ')} |`
  const rule = `| ${widths.map((width, index) => (index === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`
  const title = scenario.variants.length > 1 ? `${scenario.title} — ${variant}` : scenario.title
  return [`### ${scenario.id}. ${title}`, '', line(header), rule, ...rows.map(line), '', ...notes(results)].join('\n')
}

function cells(columns: Column[], { median, runs, failures }: Result): string[] {
  const done = runs.filter(run => run.metrics.complete === 1).length
  const complete = `${done}/${runs.length + failures.length}`
  if (!median) return [...columns.map(() => '–'), complete]
  return [...columns.map(({ key, digits = 1 }) => format(median[key], digits)), complete]
}

function format(value: number | undefined, digits: number): string {
  if (value === undefined || Number.isNaN(value)) return '–'
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** One line per peer and kind of trouble, from the last run that had it. */
function notes(results: Result[]): string[] {
  const lines = results.flatMap(({ peer, runs, failures }) => {
    const worst = runs.findLast(run => run.notes.length > 0)
    return [...(worst?.notes ?? []), ...new Set(failures.map(failure => `${peer}: ${failure}`))]
  })
  return lines.length > 0 ? [...lines.map(line => `- ${line}`), ''] : []
}

import type { NodeLine, Tick } from './rates.ts'
import { printable, table } from './table.ts'

/** The least important first: what does not fit into the width is left out from here. */
const LEFT_OUT = [
  'bytes/s',
  'topics',
  'p50',
  'registration',
  'loop',
  'cpu',
  'lag',
  'memory',
  'refused/s',
  'p99',
  'state',
]

/** Numbers of three digits or so, as a person compares them. */
export function short(value: number | undefined, unit = ''): string {
  if (value === undefined) return '–'
  const [divided, prefix] =
    value >= 1e9
      ? [value / 1e9, 'G']
      : value >= 1e6
        ? [value / 1e6, 'M']
        : value >= 1e4
          ? [value / 1e3, 'k']
          : [value, '']
  const digits = divided >= 100 || Number.isInteger(divided) ? 0 : 1
  return `${divided.toFixed(digits)}${prefix}${unit}`
}

/** Answers come from other programs: a character that is as wide as two would break every line. */
const plain = (text: string) => printable(text).replaceAll(/[^ -~]/g, '?')

function rowOf(line: NodeLine): Record<string, unknown> {
  return {
    node: plain(line.node),
    registration: plain(line.registration),
    state: line.state,
    connections: short(line.connections),
    topics: short(line.topics),
    'received/s': short(line.received),
    'delivered/s': short(line.delivered),
    'bytes/s': short(line.bytes),
    'refused/s': short(line.refused),
    p50: short(line.p50, ' ms'),
    p99: short(line.p99, ' ms'),
    lag: short(line.lag, ' ms'),
    loop: short(line.loop, ' ms'),
    cpu: short(line.cpu, ' %'),
    memory: short(line.rss, 'B'),
  }
}

const total = (nodes: readonly NodeLine[], of: (line: NodeLine) => number | undefined) =>
  nodes.some(line => of(line) !== undefined) ? nodes.reduce((sum, line) => sum + (of(line) ?? 0), 0) : undefined

function headOf({ at, nodes, expected, complete, problem }: Tick): string[] {
  const processes = new Set(nodes.map(({ node }) => node)).size
  const missing = complete ? '' : ` (${processes} of ${expected ?? 'an unknown number'} answered)`
  const numbers = [
    `${processes} nodes${missing}`,
    `${short(total(nodes, line => line.connections) ?? 0)} connections`,
    `${short(total(nodes, line => line.received))} received/s`,
    `${short(total(nodes, line => line.delivered))} delivered/s`,
    `${short(total(nodes, line => line.refused))} refused/s`,
  ]
  const first = `${new Date(at).toISOString().slice(11, 19)}  ${numbers.join('  ')}`
  return problem === undefined ? [first] : [first, plain(problem)]
}

/** The lines of a tick, none wider than `columns` and not more than `rows`. */
export function linesOf(tick: Tick, { columns, rows }: { columns: number; rows: number }): string[] {
  const nodes = tick.nodes.length === 0 ? ['no node answered'] : fitted(tick.nodes.map(rowOf), columns)
  const refusals = tick.refusals.map(({ reason, rate }) => `${short(rate).padStart(8)}/s  ${plain(reason)}`)
  const lines = [
    ...headOf(tick),
    '',
    ...nodes,
    ...(refusals.length > 0 ? ['', 'what did not go its way', ...refusals] : []),
  ]
  const kept = lines.length > rows ? [...lines.slice(0, rows - 1), `… ${lines.length - rows + 1} more lines`] : lines
  return kept.map(line =>
    [...line].length > columns ? `${[...line].slice(0, Math.max(0, columns - 1)).join('')}…` : line,
  )
}

/** Leaves out columns until a line fits. */
function fitted(rows: Record<string, unknown>[], columns: number): string[] {
  const left = [...LEFT_OUT]
  let lines = table(rows).split('\n')
  while (left.length > 0 && lines.some(line => line.length > columns)) {
    const name = left.shift()!
    for (const row of rows) delete row[name]
    lines = table(rows).split('\n')
  }
  return lines
}

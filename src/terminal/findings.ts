import { printable } from './table.ts'

/** What was looked at, and what is to be done. Only `mend` makes `doctor` fail. */
export interface Finding {
  level: 'ok' | 'hint' | 'mend'
  about: string
  found: string
  /** The line that mends it. */
  mend?: string
}

export const ok = (about: string, found: string): Finding => ({ level: 'ok', about, found })
export const hint = (about: string, found: string, mend?: string): Finding => ({
  level: 'hint',
  about,
  found,
  ...(mend !== undefined && { mend }),
})
export const mend = (about: string, found: string, line: string): Finding => ({
  level: 'mend',
  about,
  found,
  mend: line,
})

/** A line for each, and below it the line that mends it. */
export function showFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ about }) => about.length))
  const lines = findings.flatMap(({ level, about, found, mend: line }) => [
    `${level.padEnd(4)}  ${about.padEnd(width)}  ${printable(found)}`,
    ...(line === undefined ? [] : line.split('\n').map(it => `${' '.repeat(width + 8)}> ${printable(it)}`)),
  ])
  const bad = findings.filter(({ level }) => level === 'mend').length
  const end = bad === 0 ? 'Nothing must be mended.' : `${bad} of ${findings.length} must be mended.`
  return `${lines.join('\n')}\n${end}`
}

/** Rows as a table for people, columns side by side; what is absent stays empty. */
export function table(rows: readonly Readonly<Record<string, unknown>>[]): string {
  const columns = [...new Set(rows.flatMap(row => Object.keys(row)))]
  const lines = [columns, ...rows.map(row => columns.map(column => textOf(row[column])))]
  const widths = columns.map((_, i) => Math.max(...lines.map(line => line[i]!.length)))
  return lines
    .map(line =>
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  return printable(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

/** Names come from outside: what would steer the terminal is shown as an escape. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029]/gu,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** JSON for programs, which a person may look at as well: JSON.stringify leaves what steers a terminal from U+007F on. */
export function jsonOf(value: unknown): string {
  return printable(JSON.stringify(value))
}

export function timeOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString().slice(0, 19).replace('T', ' ')
}

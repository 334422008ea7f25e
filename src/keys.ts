/**
 * The first key of `value` that is not in `known`, with the known key that was probably meant.
 * Keys that begin with `x-` belong to the publisher and pass where `own` allows them.
 */
export function unknownKey(value: object, known: readonly string[], own: 'x-' | 'none' = 'none'): string | undefined {
  for (const key in value) {
    if (known.includes(key) || (own === 'x-' && key.startsWith('x-'))) continue
    return `unknown key ${quoteKey(key)}${suggestion(key, known)}`
  }
  return undefined
}

function suggestion(key: string, known: readonly string[]): string {
  const near = known.find(candidate => isNear(key.toLowerCase(), candidate.toLowerCase()))
  return near ? `: did you mean "${near}"?` : `: known are ${known.join(', ')}`
}

/** At most two edits apart, which covers a swapped, a missing and a doubled letter. */
function isNear(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 2 || a.length > 40) return false
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(replaced, row[j]! + 1, next[j - 1]! + 1)
    }
    row = next
  }
  return row[b.length]! <= 2
}

function quoteKey(key: string): string {
  return JSON.stringify(key.length > 40 ? `${key.slice(0, 40)}…` : key)
}

/**
 * Names the first key of `value` that is not in `known`, and the known key that was probably meant.
 * Keys that begin with `x-` belong to the publisher and are accepted if `own` says so.
 */
export function unknownKey(value: object, known: readonly string[], own: 'x-' | 'none' = 'none'): string | undefined {
  for (const key in value) {
    if (known.includes(key) || (own === 'x-' && key.startsWith('x-'))) continue
    return `unknown key ${quoteKey(key)}${suggestion(key, known)}`
  }
  return undefined
}

function suggestion(key: string, known: readonly string[]): string {
  const distances = known.map(candidate => distance(key.toLowerCase(), candidate.toLowerCase()))
  const nearest = Math.min(...distances)
  const at = distances.indexOf(nearest)
  // Two edits cover a swapped, a missing and a doubled letter. Two edits turn a short key into any other.
  const near = nearest <= 2 && nearest * 2 <= known[at]!.length ? known[at] : undefined
  return near ? `: did you mean "${near}"?` : `: known are ${known.join(', ')}`
}

function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2 || a.length > 40) return Infinity
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(replaced, row[j]! + 1, next[j - 1]! + 1)
    }
    row = next
  }
  return row[b.length]!
}

function quoteKey(key: string): string {
  return JSON.stringify(key.length > 40 ? `${key.slice(0, 40)}…` : key)
}

/**
 * The text of the value under a top-level `key` of a JSON object that JSON.parse has accepted.
 * Copied, not parsed and written again: 12345678901234567890, 1.0 and the order of keys arrive as they were sent.
 */
export function rawValue(text: string, key: string): string | undefined {
  let found: string | undefined
  let i = text.indexOf('{') + 1
  for (;;) {
    i = skipSpace(text, i)
    if (text[i] !== '"') return found
    const keyStart = i
    i = skipString(text, i)
    const token = text.slice(keyStart, i)
    const valueStart = skipSpace(text, skipSpace(text, i) + 1)
    i = skipValue(text, valueStart)
    // The last of two equal keys counts, as in JSON.parse; a key may be written with escapes.
    if (token === `"${key}"` || (token.includes('\\') && JSON.parse(token) === key)) {
      found = text.slice(valueStart, i).trimEnd()
    }
    i = skipSpace(text, i) + 1
  }
}

function skipSpace(text: string, from: number): number {
  let i = from
  for (let c = text.charCodeAt(i); c === 32 || c === 10 || c === 13 || c === 9; c = text.charCodeAt(i)) i++
  return i
}

function skipString(text: string, from: number): number {
  let end = text.indexOf('"', from + 1)
  while (isEscaped(text, end)) end = text.indexOf('"', end + 1)
  return end + 1
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0
  while (text.charCodeAt(at - 1 - backslashes) === 92) backslashes++
  return backslashes % 2 === 1
}

/** Where the value that begins at `from` ends: at the comma or brace after it, white space included. */
function skipValue(text: string, from: number): number {
  let depth = 0
  for (let i = from; i < text.length; i++) {
    const c = text[i]
    if (c === '"') i = skipString(text, i) - 1
    else if (c === '{' || c === '[') depth++
    else if (depth === 0 && (c === ',' || c === '}')) return i
    else if (c === '}' || c === ']') depth--
  }
  return text.length
}

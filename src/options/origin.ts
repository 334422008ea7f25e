/** Why no browser sends this text as an origin, so that it could never match; undefined when one may. */
export function originProblem(origin: string): string | undefined {
  if (origin === '*') return undefined
  if (origin.includes('*')) return `has "${origin}", but origins have no wildcards: list each of them, or only "*"`
  // Origins of other schemes, such as capacitor://localhost, follow no common rule.
  if (!/^https?:/.test(origin)) return undefined
  const sent = originOf(origin)
  if (sent === undefined) return `has "${origin}", which is not an origin: write for example "https://app.example.com"`
  return sent === origin ? undefined : `has "${origin}", which no browser sends: write "${sent}"`
}

function originOf(url: string): string | undefined {
  try {
    return new URL(url).origin
  } catch {
    return undefined
  }
}

/** Why no page can have this origin as the option `origins` compares it, by its text; undefined when one can. */
export function originProblem(origin: string): string | undefined {
  if (origin === '*') return undefined
  if (origin.includes('*')) return `has "${origin}", but origins have no wildcards: list each of them, or only "*"`
  // What other schemes have for an origin is up to whoever made them: capacitor://localhost.
  if (!/^https?:/.test(origin)) return undefined
  const sent = originOf(origin)
  if (sent === undefined) return `has "${origin}", which is no origin: write for example "https://app.example.com"`
  return sent === origin ? undefined : `has "${origin}", which no browser sends: write "${sent}"`
}

function originOf(url: string): string | undefined {
  try {
    return new URL(url).origin
  } catch {
    return undefined
  }
}

import { type Finding, hint, ok } from './findings.ts'

interface Running {
  readonly node: string
  readonly version: string
}

/** Nodes that are named: whoever restarts them wants to know where to begin. */
const MOST_NAMED = 5

/** Nodes of several versions work together, but what only the newer ones can do works only at some of them. */
export function versionFindings(reports: readonly Running[]): Finding[] {
  const versions = new Map<string, Set<string>>()
  for (const { node, version } of reports) versions.set(version, (versions.get(version) ?? new Set()).add(node))
  const [[first] = [undefined], ...others] = [...versions].sort(([a], [b]) => compareVersions(b, a))
  if (first === undefined) return []
  if (others.length === 0) return [ok('versions', `every node that answers has version ${first}`)]
  const counts = [...versions].map(([version, { size }]) => `${version} (${size})`).sort()
  const old = others.flatMap(([, nodes]) => [...nodes])
  const more = old.length > MOST_NAMED ? ` and ${old.length - MOST_NAMED} more` : ''
  const line = `install version ${first} for ${old.slice(0, MOST_NAMED).join(', ')}${more}, and restart one after the other`
  return [hint('versions', `nodes of several versions run: ${counts.join(', ')}`, line)]
}

/** Numbers as numbers, so that 0.10.0 is newer than 0.9.0. */
function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

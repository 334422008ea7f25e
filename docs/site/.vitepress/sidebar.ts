import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** In the order in which a newcomer needs them. A name that ends in a slash stands for all pages of a folder. */
const GROUPS: readonly (readonly [title: string, pages: readonly string[]])[] = [
  ['First steps', ['start', 'tutorial', 'choose', 'comparison', 'coming-from/']],
  ['Build with it', ['options', 'api', 'front-ends', 'events', 'ingress', 'php', 'laravel', 'cli']],
  ['Run it', ['deploy', 'operations', 'scale']],
  ['What is promised', ['guarantees', 'protocol', 'redis']],
  ['The project', ['architecture', 'changes']],
]

/** Where pages go that stand in no group: nothing is hidden because somebody forgot it here. */
const REST = 'More'

export interface SidebarGroup {
  text: string
  items: { text: string; link: string }[]
}

/** The groups of the sidebar, with the pages that there are. `titles`: of each page, by its name without `.md`. */
export function sidebarOf(titles: ReadonlyMap<string, string>): SidebarGroup[] {
  const left = new Set(titles.keys())
  const take = (pattern: string) =>
    [...left].filter(page => (pattern.endsWith('/') ? page.startsWith(pattern) : page === pattern)).toSorted()
  const groups = GROUPS.map(([text, patterns]) => {
    const pages = patterns.flatMap(take)
    for (const page of pages) left.delete(page)
    return [text, pages] as const
  })
  return [...groups, [REST, [...left].toSorted()] as const]
    .filter(([, pages]) => pages.length > 0)
    .map(([text, pages]) => ({ text, items: pages.map(page => ({ text: titles.get(page)!, link: `/${page}` })) }))
}

/** The pages of a folder and of those in it, with the first heading of each. `site/`, the site itself, has none. */
export function titlesOf(folder: string): Map<string, string> {
  const names = readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    if (!entry.isDirectory()) return [entry.name]
    if (entry.name === 'site') return []
    return readdirSync(join(folder, entry.name), { encoding: 'utf8' }).map(name => `${entry.name}/${name}`)
  })
  const pages = names.filter(name => name.endsWith('.md'))
  return new Map(pages.map(name => [name.slice(0, -'.md'.length), titleOf(readFileSync(join(folder, name), 'utf8'))]))
}

export function titleOf(text: string): string {
  const title = /^# (.+)$/m.exec(text)?.[1]
  if (!title) throw new Error('a page has no heading: begin it with "# …"')
  return title.replaceAll('`', '')
}

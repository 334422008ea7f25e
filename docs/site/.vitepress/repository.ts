import { readFileSync, statSync } from 'node:fs'
import { posix } from 'node:path'

/** Pages of the site that are files of the repository outside of `docs/`. */
export interface RepositoryPage {
  /** Its name on the site. */
  readonly page: string
  readonly title: string
  readonly file: string
}

export const REPOSITORY_PAGES: readonly RepositoryPage[] = [
  { page: 'start', title: 'Getting started', file: 'README.md' },
  { page: 'changes', title: 'Changes', file: 'CHANGELOG.md' },
]

const ROOT = new URL('../../../', import.meta.url)
const { repository } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as {
  repository: { url: string }
}

/** The address of the repository, without a slash at the end. */
export const REPOSITORY = repository.url.replace(/^git\+/, '').replace(/\.git$/, '')

/** The text of such a page, with links that lead somewhere on the site, or else to the repository. */
export function readPage({ file }: RepositoryPage): string {
  const text = readFileSync(new URL(file, ROOT), 'utf8')
  return text
    .replaceAll(`${REPOSITORY}/raw/HEAD/docs/`, '../')
    .replaceAll(/\]\((?!https?:|#|\.\.\/)([^)\s#]+)(#[^)\s]+)?\)/g, (_link, target: string, anchor = '') => {
      return `](${targetOf(target)}${anchor})`
    })
}

function targetOf(target: string): string {
  const own = REPOSITORY_PAGES.find(({ file }) => file === target)
  if (own) return `./${own.page}.md`
  return target.startsWith('docs/') ? `./${target.slice('docs/'.length)}` : `${REPOSITORY}/blob/HEAD/${target}`
}

/** Where a link of a page of `docs/` leads that leaves the folder: to the repository. Undefined for all others. */
export function repositoryLink(href: string, page: string): string | undefined {
  const [path = '', anchor] = href.split('#')
  if (/^([a-z]+:|\/|$)/.test(path)) return undefined
  const target = posix.join('docs', posix.dirname(page), path)
  if (target.startsWith('docs/')) return undefined
  const own = REPOSITORY_PAGES.find(({ file }) => file === target)
  const suffix = anchor === undefined ? '' : `#${anchor}`
  if (own) return `/${own.page}.md${suffix}`
  const kind = statSync(new URL(target, ROOT)).isDirectory() ? 'tree' : 'blob'
  return `${REPOSITORY}/${kind}/HEAD/${target}${suffix}`
}

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig, type UserConfig } from 'vitepress'
import { deadLinks } from './links.ts'
import { REPOSITORY, REPOSITORY_PAGES, repositoryLink } from './repository.ts'
import { sidebarOf, titlesOf } from './sidebar.ts'

const SITE = fileURLToPath(new URL('../', import.meta.url))
const DOCS = join(SITE, '..')

/** Files that pages link to. */
const FILES = ['openapi.json']

/** The ids of headings are those of GitHub: the same links lead to them there and here. */
const slugify = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

const titles = new Map([...titlesOf(DOCS), ...REPOSITORY_PAGES.map(({ page, title }) => [page, title] as const)])

type Plugin = NonNullable<NonNullable<UserConfig['vite']>['plugins']>[number]

/** Pages import Vue, and above this folder, where they are, there is none. */
const vueOfTheSite: Plugin = {
  name: 'vue-of-the-site',
  enforce: 'pre',
  resolveId(id, importer, options) {
    if (!/^vue($|\/)/.test(id) || !importer?.endsWith('.md')) return null
    return this.resolve(id, join(SITE, 'package.json'), { ...options, skipSelf: true })
  },
}

export default defineConfig({
  title: 'fastify-push-bridge',
  description: 'A Fastify plugin and a bridge over Redis: publish once, reach every WebSocket on every node',
  lang: 'en',
  // Where the site is not at the root of its host: DOCS_BASE=/fastify-push-bridge/
  base: process.env.DOCS_BASE || '/',
  srcDir: '..',
  // What stands in site/ itself is at the root of the site.
  rewrites: page => page.replace(/^site\//, ''),
  head: [['link', { rel: 'icon', type: 'image/svg+xml', href: `${process.env.DOCS_BASE || '/'}icon.svg` }]],
  vite: { publicDir: join(SITE, 'public'), plugins: [vueOfTheSite] },
  markdown: {
    anchor: { slugify },
    // Only what begins with https:// is a link: operations.md in a sentence is no host of Moldova.
    config: md => {
      md.linkify.set({ fuzzyLink: false })
      md.core.ruler.push('repository', ({ tokens, env }) => {
        for (const token of tokens.flatMap(({ children }) => children ?? [])) {
          const href = token.type === 'link_open' && token.attrGet('href')
          const elsewhere = href && repositoryLink(href, env.relativePath)
          if (elsewhere) token.attrSet('href', elsewhere)
        }
      })
    },
  },
  themeConfig: {
    logo: { src: '/icon.svg', alt: '' },
    outline: [2, 3],
    search: { provider: 'local' },
    sidebar: sidebarOf(titles),
    socialLinks: [{ icon: 'github', link: REPOSITORY }],
    editLink: { pattern: `${REPOSITORY}/edit/HEAD/docs/:path`, text: 'Edit this page' },
    footer: { message: 'MIT license' },
  },
  buildEnd({ outDir, site: { base } }) {
    for (const file of FILES) copyFileSync(join(DOCS, file), join(outDir, file))
    const dead = deadLinks(outDir, base)
    if (dead.length > 0) throw new Error(`dead links:\n${dead.join('\n')}`)
  },
})

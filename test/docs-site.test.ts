import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { deadLinks } from '../docs/site/.vitepress/links.ts'
import { REPOSITORY, REPOSITORY_PAGES, readPage, repositoryLink } from '../docs/site/.vitepress/repository.ts'
import { sidebarOf, titleOf, titlesOf } from '../docs/site/.vitepress/sidebar.ts'
import { path, temporaryFolder } from './helpers/processes.ts'

const pagesOf = (titles: ReadonlyMap<string, string>) =>
  sidebarOf(titles).flatMap(({ items }) => items.map(({ link }) => link.slice(1)))

test('every page of docs/ is in the sidebar once, under its own heading', () => {
  const titles = titlesOf(path('docs'))
  assert.ok(titles.size >= 12 && titles.has('options') && ![...titles.keys()].some(page => page.startsWith('site')))
  assert.deepEqual(pagesOf(titles).toSorted(), [...titles.keys()].toSorted())
  const items = sidebarOf(titles).flatMap(({ items }) => items)
  assert.equal(items.find(({ link }) => link === '/options')?.text, 'Options')
})

test('a page that no group knows stands under More, and a folder stands where its name is', () => {
  const titles = new Map(['zebra', 'coming-from/reverb', 'start', 'coming-from/mercure'].map(page => [page, page]))
  assert.deepEqual(
    sidebarOf(titles).map(({ text, items }) => [text, items.map(({ link }) => link)]),
    [
      ['First steps', ['/start', '/coming-from/mercure', '/coming-from/reverb']],
      ['More', ['/zebra']],
    ],
  )
})

test('a page without a heading is an error', () => {
  assert.equal(titleOf('<!-- x -->\n# The `app`\n## More'), 'The app')
  assert.throws(() => titleOf('## Only this'), /begin it with "# …"/)
})

test('what README and CHANGELOG link to is on the site, or in the repository', () => {
  for (const page of REPOSITORY_PAGES) {
    const links = [...readPage(page).matchAll(/\]\(([^)\s#]+)/g)].map(([, target]) => target!)
    assert.ok(links.length > 0, page.file)
    for (const link of links.filter(link => !link.startsWith('https://'))) {
      const name = link.replace('./', '').replace(/\.md$/, '')
      const isOwn = REPOSITORY_PAGES.some(({ page }) => page === name)
      assert.ok(isOwn || readFileSync(path(link.startsWith('../') ? `docs/${link.slice(3)}` : `docs/${link}`)), link)
    }
  }
  const [start] = REPOSITORY_PAGES
  assert.match(readPage(start!), /\]\(\.\/options\.md\)/)
  assert.match(readPage(start!), /\]\(https:\/\/github\.com\/[^)]+\/blob\/HEAD\/LICENSE\)/)
  assert.match(readPage(start!), /!\[[^\]]+\]\(\.\.\/images\/demo\.png\)/)
})

test('a link out of docs/ leads to the repository, or to the page that the file is on the site', () => {
  for (const href of ['options.md', '#keys', 'https://example.com/', '/start', './images/demo.png']) {
    assert.equal(repositoryLink(href, 'events.md'), undefined, href)
  }
  assert.equal(repositoryLink('../options.md', 'coming-from/reverb.md'), undefined)
  assert.equal(repositoryLink('../example/deploy', 'deploy.md'), `${REPOSITORY}/tree/HEAD/example/deploy`)
  assert.equal(repositoryLink('../SECURITY.md#x', 'options.md'), `${REPOSITORY}/blob/HEAD/SECURITY.md#x`)
  assert.equal(repositoryLink('../../README.md#speed', 'coming-from/reverb.md'), '/start.md#speed')
  assert.throws(() => repositoryLink('../gone.md', 'options.md'), /ENOENT/)
})

test('dead links are found: of files, of pages, of headings', t => {
  const folder = temporaryFolder(t)
  const write = (name: string, html: string) => {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), html)
  }
  const page = `<a href="/docs/"></a><a href="./a.html#there"></a><a href="/docs/in/b.html"></a> <h2 id="own"></h2>
    <a href="#own"></a><a href="https://example.com/x"></a><a href="/docs/x.json"></a>`
  write('index.html', page)
  write('x.json', '{}')
  write('a.html', '<h2 class="x" id="there"></h2><a href="./index.html#own"></a>')
  write('in/b.html', '<a href="../a.html"></a>')
  assert.deepEqual(deadLinks(folder, '/docs/'), [])
  write(
    'in/b.html',
    '<a href="./a.html"></a><a href="../a.html#gone"></a><a href="#nowhere"></a><a href="/docs/y.json"></a>',
  )
  assert.deepEqual(deadLinks(folder, '/docs/'), [
    'in/b.html: ./a.html is not there',
    'in/b.html: a.html has no heading for #gone',
    'in/b.html: in/b.html has no heading for #nowhere',
    'in/b.html: /docs/y.json is not there',
  ])
})

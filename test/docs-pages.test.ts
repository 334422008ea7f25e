import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** What holds for every page, and between pages that say the same. What they print is run by test/docs.test.ts and test/interop. */

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const read = (name: string) => readFileSync(path(name), 'utf8')

const PAGES = readdirSync(path('docs'), { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.md') && !name.startsWith('site'))
  .map(name => `docs/${name}`)
  .sort()

const blocksOf = (text: string) => text.match(/^```\w+\n[\s\S]*?^```$/gm) ?? []

/** Without blocks and inline code. */
const proseOf = (text: string) => text.replaceAll(/^```[\s\S]*?^```$/gm, '').replaceAll(/`[^`]*`/g, '')

const linksOf = (text: string) => [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!)
const levelsOf = (text: string) => [...proseOf(text).matchAll(/^(#+) /gm)].map(([, level]) => level!)

/** The cells of all tables that are numbers. */
const numbersOf = (text: string) => text.match(/(?<=\| )[\d.,]+(?= \|)/g) ?? []

for (const page of PAGES) {
  test(`${page}: one title, and nothing that a site takes for its own markup`, () => {
    const text = read(page)
    assert.match(text, /^# \S.*\n\n/, 'it begins with its title')
    const prose = proseOf(text)
    assert.equal(prose.match(/^# /gm)?.length, 1, 'it has one title')
    assert.deepEqual(prose.match(/<\/?[a-z][^>]*>|\{\{/gi), null)
  })
}

test('README.zh-CN.md says what README.md says: the same sections, blocks, links and numbers', () => {
  const [english, chinese] = [read('README.md'), read('README.zh-CN.md')]
  assert.deepEqual(blocksOf(chinese), blocksOf(english))
  assert.deepEqual(levelsOf(chinese), levelsOf(english))
  assert.deepEqual(numbersOf(chinese), numbersOf(english))
  const others = (links: string[], own: string) => links.filter(link => link !== own).sort()
  assert.deepEqual(others(linksOf(chinese), 'README.md'), others(linksOf(english), 'README.zh-CN.md'), 'links of both')
  assert.ok(linksOf(english).includes('README.zh-CN.md') && linksOf(chinese).includes('README.md'))
})

test('choose.md has the numbers of the pages that say how they were measured', () => {
  const text = read('docs/choose.md')
  const sources = [
    ['What was lost', 'docs/guarantees.md'],
    ['How fast', 'test/bench/README.md'],
    ['What a connection costs', 'docs/comparison.md'],
  ] as const
  for (const [heading, source] of sources) {
    const [, section = ''] = text.split(`### ${heading}\n`)
    const rows = section.split(/^#/m)[0]!.match(/^\| \S.*\|$/gm) ?? []
    assert.ok(rows.length > 0, heading)
    const known = new Set(read(source).match(/\d[\d.,]*\d|\d/g))
    for (const row of rows) {
      for (const cell of row.split(' | ').slice(1)) {
        for (const number of cell.match(/\d[\d.,]*\d|\d/g) ?? []) assert.ok(known.has(number), `${heading}: ${row}`)
      }
    }
  }
})

test('every page of "coming from" is in README.md and in choose.md', () => {
  for (const page of PAGES.filter(name => name.startsWith('docs/coming-from/'))) {
    assert.ok(linksOf(read('README.md')).includes(page), page)
    assert.ok(linksOf(read('docs/choose.md')).includes(page.slice('docs/'.length)), page)
  }
})

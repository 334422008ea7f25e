import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const FOLDER = fileURLToPath(new URL('./', import.meta.url))

/** The lines of the table under `## OWASP's checklist`, without its head. */
function checklist(): string[][] {
  const text = readFileSync(`${FOLDER}../SECURITY.md`, 'utf8')
  const [, section = ''] = text.split("## OWASP's checklist\n")
  const rows = section
    .split('\n## ', 1)[0]!
    .split('\n')
    .filter(line => line.startsWith('| '))
  return rows.slice(2).map(row =>
    row
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim()),
  )
}

/** The names of tests in a file; of those with a parameter, the text with its `${}`. */
function namesIn(file: string): { name: string; hasParameter: boolean }[] {
  const titles = readFileSync(file, 'utf8').matchAll(/\btest\(\s*(['"`])((?:\\.|(?!\1).)+)\1/g)
  return [...titles].map(([, quote, name]) => ({ name: name!, hasParameter: quote === '`' }))
}

const CITED = /`([\w/.-]+\.test\.ts)` "([^"]+)"/g

test('OWASP: every line of the checklist says what is done and names tests', () => {
  const rows = checklist()
  assert.ok(rows.length >= 30, `${rows.length} lines`)
  for (const [asked = '', done = '', proof = ''] of rows) {
    assert.ok(asked.length > 5 && done.length > 5, asked)
    assert.equal(proof.replaceAll(CITED, '').replaceAll(';', '').trim(), '', `${asked}: ${proof}`)
  }
})

test('OWASP: every test that the checklist names is there', () => {
  const cited = checklist().flatMap(([asked, , proof = '']) =>
    [...proof.matchAll(CITED)].map(([, file, name]) => ({ asked, file: file!, name: name! })),
  )
  assert.ok(cited.length >= 50, `${cited.length} tests`)
  for (const { asked, file, name } of cited) {
    assert.ok(existsSync(FOLDER + file), `${asked}: there is no ${file}`)
    const isThere = namesIn(FOLDER + file).some(it => it.name === name || (it.hasParameter && it.name.includes(name)))
    assert.ok(isThere, `${asked}: ${file} has no test "${name}"`)
  }
})

const WRITES_HTML = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/

test('OWASP: the pages of the examples write text, and never HTML', () => {
  const example = `${FOLDER}../example`
  const pages = readdirSync(example, { recursive: true, encoding: 'utf8' }).filter(name =>
    /\.(js|html|php)$/.test(name),
  )
  assert.ok(pages.some(name => name.endsWith('page.js')))
  for (const page of pages) assert.doesNotMatch(readFileSync(`${example}/${page}`, 'utf8'), WRITES_HTML, page)
})

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PATIENCE, START } from './helpers/waiting.ts'

const FOLDER = fileURLToPath(new URL('./', import.meta.url))

/** Helpers are where the deadlines are; the others are programs of their own, and this file with its bad examples. */
const APART = /^(helpers|bench|chaos|package\/node_modules)\/|^deadlines\.test/

/**
 * The shortest deadline that a test may have of its own, beyond that of all tests: longer than everything that it waits
 * for, or the sentence that says what did not come is never read.
 */
const SHORTEST = 2 * PATIENCE
/** The same where a test waits for a program that is still to start. */
const SHORTEST_WITH_PROGRAMS = START + PATIENCE

const TEXT = String.raw`(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\`(?:\\.|[^\`\\])*\`)`
const NAMED_OPTIONS = /^const (\w+) = \{[^{}]*\btimeout: ([\d_]+)/gm
const INLINE_OPTIONS = new RegExp(String.raw`\btest\(\s*${TEXT},\s*\{[^{}]*\btimeout: ([\d_]+)`, 'g')

/** Where something is awaited over timers until a condition holds. */
const LOOP = /\bdo \{|\b(while|for) ?\(/g
const COUNTED = /^(const |let |\s*;.*\b(\w+) <=? [^;]*;\s*\2\+\+)/
const CLOCK = /performance\.now\(\)|Date\.now\(\)/

const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .map(name => name.split(sep).join('/'))
  .filter(name => /(\.test|suite)\.ts$/.test(name) && !APART.test(name))
  .map(name => ({ name, text: readFileSync(join(FOLDER, name), 'utf8') }))

const lineOf = (text: string, at: number) => text.slice(0, at).split('\n').length

/** Where the bracket at `from` is closed. */
function closing(text: string, from: number): number {
  const [open, close] = text[from] === '(' ? '()' : '{}'
  for (let at = from, depth = 0; at < text.length; at++) {
    if (text[at] === open) depth++
    else if (text[at] === close && --depth === 0) return at
  }
  return text.length
}

/** What is repeated by a loop whose head ends before `from`. */
function bodyFrom(text: string, from: number): string {
  const begin = from + /^\s*/.exec(text.slice(from))![0].length
  return text[begin] === '{' ? text.slice(begin, closing(text, begin)) : text.slice(begin, text.indexOf('\n', begin))
}

/** Names under which a file waits for its timers or for another turn of the event loop. */
function waitsIn(text: string): RegExp {
  const renamed = [...text.matchAll(/\bset(?:Timeout|Immediate) as (\w+)/g)].map(([, name]) => name!)
  const own = [...text.matchAll(/^\s*const (\w+) = \(.*=> new Promise\(.*set(?:Timeout|Immediate)/gm)].map(
    ([, name]) => name!,
  )
  return new RegExp(String.raw`\bawait\b[^;\n]*\b(?:${['setTimeout', 'setImmediate', ...renamed, ...own].join('|')})\b`)
}

/** The lines of loops that wait as long as it takes. */
function endlessLoops(text: string): number[] {
  const waits = waitsIn(text)
  const found: number[] = []
  for (const match of text.matchAll(LOOP)) {
    const at = match.index + match[0].length - 1
    const isDo = match[1] === undefined
    const end = isDo ? at : closing(text, at) + 1
    const head = isDo ? (/^\s*while.*/.exec(text.slice(closing(text, at) + 1))?.[0] ?? '') : text.slice(at + 1, end - 1)
    const isBounded = CLOCK.test(head) || (match[1] === 'for' && COUNTED.test(head))
    if (!isBounded && waits.test(bodyFrom(text, end))) found.push(lineOf(text, match.index))
  }
  return found
}

/** The deadlines that tests have of their own. */
function deadlinesIn(text: string): { line: number; milliseconds: number }[] {
  const isGiven = (name: string) => new RegExp(String.raw`,\s*${name},\s*(async\b|\(|t\b)`).test(text)
  const named = [...text.matchAll(NAMED_OPTIONS)].filter(([, name]) => isGiven(name!))
  return [
    ...named.map(match => [match, match[2]!] as const),
    ...[...text.matchAll(INLINE_OPTIONS)].map(match => [match, match[1]!] as const),
  ].map(([match, digits]) => ({ line: lineOf(text, match.index), milliseconds: Number(digits.replaceAll('_', '')) }))
}

const helpers = readdirSync(join(FOLDER, 'helpers')).filter(name => name.endsWith('.ts') && name !== 'waiting.ts')
const startHelpers = new Set(
  helpers.filter(name => /\bSTART\b/.test(readFileSync(join(FOLDER, 'helpers', name), 'utf8'))),
)

/** Whether what is waited for may be a program that is still to start. */
function waitsForPrograms(text: string): boolean {
  const imports = [...text.matchAll(/from '.*\/helpers\/(\w[\w-]*\.ts)'/g)].map(([, name]) => basename(name!))
  return /\bSTART\b/.test(text) || imports.some(name => startHelpers.has(name))
}

test('a loop that waits has a deadline that says what it waits for: until() of helpers/waiting.ts', () => {
  const found = files.flatMap(({ name, text }) => endlessLoops(text).map(line => `test/${name}:${line}`))
  assert.deepEqual(found, [])
})

test('a test lasts longer than all that it waits for', () => {
  const found = files.flatMap(({ name, text }) => {
    const least = waitsForPrograms(text) ? SHORTEST_WITH_PROGRAMS : SHORTEST
    return deadlinesIn(text)
      .filter(({ milliseconds }) => milliseconds < least)
      .map(({ line, milliseconds }) => `test/${name}:${line} has ${milliseconds} ms, not ${least}`)
  })
  assert.deepEqual(found, [])
})

test('both rules see what they are to see', () => {
  assert.ok(files.length > 150, `${files.length} files`)
  assert.ok(files.flatMap(({ text }) => deadlinesIn(text)).length > 50)
  const loops = [
    'const turn = () => new Promise(setImmediate)\nwhile (a()) await turn()\n',
    'while (!(await b())) await new Promise(resolve => setTimeout(resolve, 5))\n',
    'for (; c > 0; n++) await new Promise(setImmediate)\n',
    'for (;;) {\n  if (d()) break\n  await setTimeout(5)\n}\n',
    "import { setTimeout as sleep } from 'node:timers/promises'\ndo {\n  await sleep(1)\n} while (e())\n",
  ]
  for (const text of loops) assert.equal(endlessLoops(text).length, 1, text)
  const bounded = [
    'for (let i = 0; i < 9; i++) await new Promise(setImmediate)\n',
    'for (const it of all) await new Promise(setImmediate)\n',
    'for (; read < 30; read++) await setTimeout(5)\n',
    'while (!done() && performance.now() < end) await new Promise(setImmediate)\n',
    'while (messages.length < 3) messages.push(await inbox.take())\n',
  ]
  for (const text of bounded) assert.deepEqual(endlessLoops(text), [], text)
  const short =
    "const SLOW = { timeout: 30_000 }\ntest('a', SLOW, async t => {})\ntest('b', { timeout: 5 }, async () => {})\n"
  assert.deepEqual(
    deadlinesIn(short).map(({ line, milliseconds }) => [line, milliseconds]),
    [
      [1, 30_000],
      [3, 5],
    ],
  )
  assert.deepEqual(deadlinesIn("const QUICK = { timeout: 100 }\nclient.request('a', QUICK)\n"), [])
})

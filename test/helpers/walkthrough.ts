import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { type Cleanup, run } from './processes.ts'
import { once, PATIENCE, START, until } from './waiting.ts'

/**
 * Does what a page says, as its reader would: saves files, types commands, looks at windows. It knows no step of any page.
 * What it cannot find in the text, a reader cannot find there either.
 */

export interface Section {
  heading: string
  /** What is said before each block, and the block; the last one may be without. */
  steps: { prose: string; lang?: string; code?: string }[]
}

export function sectionsOf(text: string): Section[] {
  const [, ...parts] = text.split(/^## /m)
  return parts.map(part => {
    const end = part.indexOf('\n')
    const steps = part.slice(end).split(/^```$(?=\n)/m)
    return {
      heading: part.slice(0, end),
      steps: steps.map(step => {
        const [prose = '', block] = step.split(/^```(?=\w)/m)
        const said = prose.trim().replaceAll(/\s+/g, ' ')
        if (block === undefined) return { prose: said }
        const line = block.indexOf('\n')
        return { prose: said, lang: block.slice(0, line), code: block.slice(line + 1) }
      }),
    }
  })
}

/** A program that the reader left running in a terminal of its own, with whatever it started. */
class Running {
  output = ''
  hasEnded = false
  readonly process: ChildProcess

  constructor(t: Cleanup, command: string, cwd: string, env: NodeJS.ProcessEnv) {
    this.process = spawn('bash', ['-c', command], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.setEncoding('utf8').on('data', text => {
        this.output += text
      })
    }
    this.process.once('close', () => {
      this.hasEnded = true
    })
    t.after(() => this.stop('SIGKILL'))
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    if (this.hasEnded) return
    const closed = once(this.process, 'close', START)
    try {
      // To all of its process group, as a terminal does.
      process.kill(-this.process.pid!, signal)
    } catch {
      // It has just ended.
    }
    await closed
  }

  async prints(pattern: RegExp): Promise<string> {
    const said = () => `${pattern} in: ${this.output}`
    await until(() => pattern.test(this.output) || this.hasEnded, said, START)
    const found = pattern.exec(this.output)
    assert.ok(found, `it ended without ${said()}`)
    return found[1] ?? found[0]
  }
}

export interface Reader {
  browser: Browser
  /** Where the reader begins. */
  folder: string
  env: NodeJS.ProcessEnv
  /** Ports and programs of this machine in place of those that the page names. */
  localise(text: string): string
  /** Runs PHP that the page puts somewhere into an application. */
  inApplication?(code: string, folder: string): Promise<void>
  /** What a page fetches: the command whose output is the answer, by URL. */
  answers?: Readonly<Record<string, string>>
}

/** Any text for `…`, and any white space for white space. */
const expected = (line: string) => new RegExp(`^${line.trim().split('…').map(literal).join('.*')}$`)
const literal = (text: string) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')
const lastSentence = (prose: string) => prose.split(/(?<=[.:;]) /).at(-1)!
const linesOf = (text: string) =>
  text
    .replaceAll(/[ \t]+/g, ' ')
    .trimEnd()
    .split('\n')

export class Walkthrough {
  readonly #t: Cleanup
  readonly #reader: Reader
  readonly #windows = new Map<string, Page>()
  #folder: string
  #window: Page | undefined
  /** The program that was started last and left running. */
  #running: Running | undefined
  #last: { output: string; hasEnded: boolean } | undefined
  /** The last command once more, if the page says that it may be too early. */
  #again: (() => Promise<void>) | undefined
  #env: NodeJS.ProcessEnv

  constructor(t: Cleanup, reader: Reader) {
    this.#t = t
    this.#reader = reader
    this.#folder = reader.folder
    this.#env = reader.env
  }

  /** Does what a section says, and fails where something else happens than it says. */
  async follow({ steps }: Section): Promise<void> {
    for (const { prose, lang, code } of steps) {
      const said = this.#reader.localise(prose)
      await this.#act(said)
      if (lang !== undefined) await this.#use(said, lang, this.#reader.localise(code!))
    }
  }

  /** What the sentences ask for, in their order. */
  async #act(prose: string): Promise<void> {
    const found = SENTENCES.flatMap(([pattern, act]) =>
      [...prose.matchAll(pattern)].map(match => ({ at: match.index, act: () => act(this, match) })),
    )
    for (const { act } of found.toSorted((a, b) => a.at - b.at)) await act()
  }

  async #use(prose: string, lang: string, code: string): Promise<void> {
    if (lang === 'bash') return this.#type(prose, code)
    if (lang === 'text' && /window(?: of \w+)? shows:$/.test(prose)) return this.#shows(code)
    if (lang === 'text')
      return this.#printed(code, /left running last, prints:$/.test(prose) ? this.#running : this.#last)
    const [, whole] = /Save this as `([^`]+)`(?: \([^)]*\))?:$/.exec(prose) ?? []
    if (whole) return writeFileSync(join(this.#folder, whole), code)
    if (lang === 'html' && /^In the page\b.*:$/.test(lastSentence(prose))) return this.#runInPage(code)
    if (lang === 'php' && this.#reader.inApplication) return this.#reader.inApplication(code, this.#folder)
    const [, name, where, line] = /In `([^`]+)`, put this (below|in place of) the line `([^`]+)`:$/.exec(prose) ?? []
    assert.ok(name, `nothing says what to do with the ${lang} behind: ${prose.slice(-200)}`)
    const file = join(this.#folder, name)
    const lines = readFileSync(file, 'utf8').split('\n')
    const [at, ...more] = lines.flatMap((it, i) => (it.trim() === line ? i : []))
    assert.ok(at !== undefined && more.length === 0, `${name} has ${at === undefined ? 'no' : 'several'} "${line}"`)
    lines.splice(where === 'below' ? at + 1 : at, where === 'below' ? 0 : 1, ...code.trimEnd().split('\n'))
    writeFileSync(file, lines.join('\n'))
  }

  async #type(prose: string, code: string): Promise<void> {
    const [cwd, env] = [this.#folder, this.#env]
    if (/leave it running[^:]*:$/.test(prose)) {
      this.#running = new Running(this.#t, code, cwd, env)
      this.#last = this.#running
      return
    }
    // One terminal for all of them: where it is and what was exported stays.
    const after = join(this.#reader.folder, 'environment')
    const ended = await run('bash', ['-e', '-c', `${code}\nenv -0 > '${after}'`], { cwd, env }, START)
    assert.equal(ended.code, 0, `${code}\n${ended.stdout}${ended.stderr}`)
    const variables = readFileSync(after, 'utf8').split('\0').filter(Boolean)
    this.#env = Object.fromEntries(variables.map(it => [it.slice(0, it.indexOf('=')), it.slice(it.indexOf('=') + 1)]))
    this.#folder = this.#env.PWD!
    this.#last = { output: ended.stdout, hasEnded: true }
    if (/once more if that was too early:$/.test(prose)) this.#again = () => this.#type('', code)
    else if (prose !== '') this.#again = undefined
  }

  /** What the last command printed: in all, or so far if it runs. */
  async #printed(code: string, last: { output: string; hasEnded: boolean } | undefined): Promise<void> {
    const patterns = linesOf(code).map(expected)
    assert.ok(last, `nothing has printed ${code}`)
    const again = last === this.#last ? this.#again : undefined
    const output = () => (again ? this.#last! : last).output
    const isThere = () => hasInOrder(linesOf(output()), patterns)
    const said = () => `\n${code}in what it printed:\n${output()}`
    await until(async () => isThere() || (again ? again().then(isThere) : last.hasEnded), said, START)
    assert.ok(isThere(), `there is no${said()}`)
  }

  /** The last lines of the list in the window. */
  async #shows(code: string): Promise<void> {
    const patterns = linesOf(code).map(expected)
    let shown: string[] = []
    const isThere = async () => {
      // A page that is just being loaded again shows nothing.
      shown = (
        await this.window
          .locator('ol li')
          .allTextContents()
          .catch(() => [])
      ).map(line => line.trim())
      const tail = shown.slice(-patterns.length)
      return tail.length === patterns.length && patterns.every((pattern, i) => pattern.test(tail[i]!))
    }
    await until(isThere, () => `the window shows\n${code}\nand not\n${shown.join('\n')}`)
  }

  /** In a page of the node: connects, gets every topic that it asks for, and is told no error. */
  async #runInPage(code: string): Promise<void> {
    const [, script] = /<script type="module">([\s\S]*)<\/script>/.exec(code) ?? []
    assert.ok(script, code)
    const context = await this.#reader.browser.newContext()
    context.setDefaultTimeout(PATIENCE)
    const page = await context.newPage()
    for (const [url, command] of Object.entries(this.#reader.answers ?? {})) {
      await page.route(url, async route => {
        const { stdout } = await run('bash', ['-c', command], { cwd: this.#folder, env: this.#env })
        await route.fulfill({ body: stdout })
      })
    }
    const [frames, problems]: [string[], string[]] = [[], []]
    page.on('pageerror', error => problems.push(error.message))
    page.on('websocket', socket => socket.on('framereceived', ({ payload }) => frames.push(String(payload))))
    try {
      await page.goto(this.#reader.localise('http://127.0.0.1:3000/ws/client.js'))
      await page.addScriptTag({ type: 'module', content: script })
      const has = (type: string) => frames.some(frame => frame.startsWith(`{"type":"${type}"`))
      const isThere = () => (has('welcome') && has('subscribed')) || has('error') || problems.length > 0
      await until(isThere, () => `a welcome and a topic; came: ${frames.join('\n')}`)
      assert.deepEqual([has('error'), problems], [false, []], frames.join('\n'))
    } finally {
      await context.close()
    }
  }

  get window(): Page {
    assert.ok(this.#window, 'no window is open')
    return this.#window
  }

  look(user: string): void {
    const page = this.#windows.get(user)
    assert.ok(page, `there is no window of ${user}`)
    this.#window = page
  }

  async open(url: string, { isPrivate = false } = {}): Promise<void> {
    // What was just started may not listen yet.
    const answers = () =>
      fetch(url).then(
        ({ ok }) => ok,
        () => false,
      )
    await until(answers, `an answer of ${url}; ${this.#running?.output}`, START)
    if (isPrivate || !this.#window) {
      const context: BrowserContext = await this.#reader.browser.newContext()
      this.#t.after(() => context.close())
      this.#window = await context.newPage()
      this.#window.setDefaultTimeout(PATIENCE)
    }
    await this.window.goto(url)
  }

  async logIn(user: string, password: string): Promise<void> {
    await this.window.locator('input[name="name"]').fill(user)
    await this.window.locator('input[name="password"]').fill(password)
    await this.press('Log in')
    this.#windows.set(user, this.window)
  }

  press(button: string): Promise<void> {
    return this.window.getByRole('button', { name: button, exact: true }).click()
  }

  async write(text: string, button: string): Promise<void> {
    const form = this.window.locator('form', { has: this.window.getByRole('button', { name: button, exact: true }) })
    await form.locator('input').first().fill(text)
    await this.press(button)
  }

  says(text: string): Promise<void> {
    return this.window.getByText(text, { exact: true }).waitFor()
  }

  async openPrinted(): Promise<void> {
    await this.open(await this.#running!.prints(/^\s+(http:\/\/\S+)$/m))
  }

  async pastePrinted(): Promise<void> {
    const line = await this.#running!.prints(/^\s+(curl .+)$/m)
    const { code, stdout, stderr } = await run('bash', ['-c', line], { cwd: this.#folder })
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`)
  }

  stop(): Promise<void> {
    assert.ok(this.#running && !this.#running.hasEnded, 'nothing runs that could be stopped')
    return this.#running.stop('SIGINT')
  }
}

const hasInOrder = (lines: readonly string[], patterns: readonly RegExp[]): boolean => {
  let next = 0
  for (const line of lines) if (next < patterns.length && patterns[next]!.test(line.trim())) next++
  return next === patterns.length
}

type Act = (walk: Walkthrough, match: RegExpMatchArray) => unknown

/** The sentences that ask a reader to do something, or tell what there is to see. */
const SENTENCES: readonly (readonly [RegExp, Act])[] = [
  [/window of (\w+)/gi, (walk, [, user]) => walk.look(user!)],
  [/open (http:\/\/[^\s]+\/)( in a private window)?/gi, (walk, [, url, own]) => walk.open(url!, { isPrivate: !!own })],
  [/open the address that it printed/gi, walk => walk.openPrinted()],
  [/paste the `curl` line that it printed/gi, walk => walk.pastePrinted()],
  [/log in as `(\w+)` with the password `(\w+)`/gi, (walk, [, user, password]) => walk.logIn(user!, password!)],
  [/write `([^`]+)` and press \*\*([^*]+)\*\*/gi, (walk, [, text, button]) => walk.write(text!, button!)],
  [/(?<!and )press \*\*([^*]+)\*\*/gi, (walk, [, button]) => walk.press(button!)],
  [/page says `([^`]+)`/gi, (walk, [, text]) => walk.says(text!)],
  [/stop the program with ctrl-c/gi, walk => walk.stop()],
]

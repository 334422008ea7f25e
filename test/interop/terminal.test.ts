import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { after, before, type TestContext, test } from 'node:test'
import { buildPush, openConnection } from '../helpers/app.ts'
import { cleanups, path } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { once, START, until, within } from '../helpers/waiting.ts'

const ESCAPE = '\u001b'
const ENTERED = `${ESCAPE}[?1049h${ESCAPE}[?25l`
const LEFT = `${ESCAPE}[?25h${ESCAPE}[?1049l`
const COLUMNS = 100
const ROWS = 20

/** What the program in the terminal has it end with, when nobody expects it. */
const FAILS = "process.on('SIGUSR2', () => { throw new Error('nobody expected this') })"

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

interface Said {
  pid?: number
  out?: string
  mode?: 'raw' | 'cooked'
  exit?: number
}

/** `fastify-push-bridge` in a terminal of its own. */
class InTerminal {
  pid = 0
  screen = ''
  modes: string[] = []
  exit: number | undefined
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>

  constructor(t: TestContext, line: string, env: Record<string, string> = {}) {
    const command = [process.execPath, '--import', 'tsx', path('src/cli.ts'), ...line.split(' ')]
    const args = [path('test/helpers/own_terminal.py'), `${COLUMNS}`, `${ROWS}`, ...command]
    this.#process = spawn(findProgram('python3')!, args, {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    createInterface({ input: this.#process.stdout! }).on('line', text => this.#take(JSON.parse(text)))
    this.#ended = once(this.#process, 'close', START)
    this.#ended.catch(() => {})
    // Its end of the pipe closes, and it kills what it started.
    t.after(() => this.#process.stdin!.end())
  }

  #take({ pid, out, mode, exit }: Said): void {
    this.pid = pid ?? this.pid
    this.screen += out ?? ''
    if (mode !== undefined && mode !== this.modes.at(-1)) this.modes.push(mode)
    this.exit = exit ?? this.exit
  }

  press(keys: string): void {
    this.#process.stdin!.write(keys)
  }

  /** Until it is so, or until there is nothing more to come. */
  async until(check: () => boolean, what: string): Promise<void> {
    const isDue = until(check, () => `${what}: ${JSON.stringify(this.screen)}`, START)
    const isOver = this.#ended.then(() => {
      if (!check()) throw new Error(`the terminal has ended before ${what}: ${JSON.stringify(this.screen)}`)
    })
    await Promise.race([isDue, isOver])
  }

  async ended(): Promise<void> {
    await within(
      this.#ended,
      () => `the end of the terminal, which shows: ${JSON.stringify(this.screen.slice(-500))}`,
      START,
    )
  }
}

/** `top`, once it shows the node and reads keys. */
async function startTop(t: TestContext) {
  const redisPrefix = `term${++prefixes}:`
  const { app } = await buildPush(t, { redis: redis.url, redisPrefix })
  const { welcome } = await openConnection(app, '/ws/room')
  const env = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(FAILS)}` }
  const terminal = new InTerminal(t, `top --every 0.1 --redis ${redis.url} --prefix ${redisPrefix}`, env)
  const isShown = () => terminal.screen.includes(welcome.node.slice(0, 6)) && terminal.modes.at(-1) === 'raw'
  await terminal.until(isShown, `the node ${welcome.node} is on the screen`)
  return { app, terminal }
}

let prefixes = 0

const ENDS: [what: string, end: (terminal: InTerminal) => void, exit: number][] = [
  ['q', terminal => terminal.press('q'), 0],
  ['Escape', terminal => terminal.press(ESCAPE), 0],
  ['Ctrl-C', terminal => terminal.press('\u0003'), 0],
  ['SIGTERM', ({ pid }) => process.kill(pid, 'SIGTERM'), 0],
  ['an error that nobody expected', ({ pid }) => process.kill(pid, 'SIGUSR2'), 1],
]

for (const [what, end, exit] of ENDS) {
  test(`top in a terminal: the screen and the keys are given back at ${what}`, async t => {
    const { terminal } = await startTop(t)
    const [before, live] = terminal.screen.split(ENTERED)
    assert.ok(before === '' && live !== undefined, 'a screen of its own, before anything is written')
    assert.ok(!live.includes(LEFT))
    end(terminal)
    await terminal.ended()
    assert.equal(terminal.exit, exit, terminal.screen)
    assert.deepEqual(terminal.modes, ['cooked', 'raw', 'cooked'])
    const [, afterwards, ...more] = terminal.screen.split(LEFT)
    assert.deepEqual(more, [], 'it is left once')
    // What went wrong stands where the person goes on, not on the screen that is gone.
    assert.equal(/nobody expected this/.test(afterwards!), exit === 1, terminal.screen)
    if (exit === 0) assert.equal(afterwards, '')
  })
}

test('top in a terminal: every screen fits, other keys do nothing, and what happens is seen', async t => {
  const { app, terminal } = await startTop(t)
  terminal.press('xyz\r ')
  for (let n = 0; n < 3; n++) await openConnection(app, '/ws/room')
  const screens = () => terminal.screen.split(`${ESCAPE}[H`).slice(1, -1)
  const textOf = (screen: string) => screen.replaceAll(new RegExp(`${ESCAPE}\\[[0-9;?]*[A-Za-z]`, 'g'), '')
  await terminal.until(() => screens().some(screen => /\b4 connections\b/.test(textOf(screen))), 'four connections')
  for (const screen of screens()) {
    const lines = textOf(screen).split('\r\n')
    assert.ok(lines.length <= ROWS, `${lines.length} lines`)
    assert.deepEqual(
      lines.filter(line => [...line].length > COLUMNS),
      [],
    )
  }
  terminal.press('q')
  await terminal.ended()
  assert.equal(terminal.exit, 0)
})

test('a command that needs no screen leaves the terminal as it is', async t => {
  const terminal = new InTerminal(t, `top --once --every 0.1 --redis ${redis.url} --prefix none:`)
  await terminal.ended()
  assert.deepEqual([terminal.modes, terminal.screen.includes(ESCAPE)], [['cooked'], false])
})

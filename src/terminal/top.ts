import { setTimeout as sleep } from 'node:timers/promises'
import type { Nodes } from '../node/monitoring/report-schemas.ts'
import type { ScriptPublisher } from '../publisher.ts'
import {
  countIn,
  type Desk,
  EXIT,
  type Given,
  numberIn,
  on,
  type Screen,
  type Task,
  text,
  UsageError,
} from './command.ts'
import { Rates, type Tick } from './rates.ts'
import { jsonOf } from './table.ts'
import { linesOf } from './top-view.ts'

const ESCAPE = '\u001b['

/** Over what is there, line by line: clearing the screen first would flicker. */
const HOME = `${ESCAPE}H`
const REST_OF_LINE = `${ESCAPE}K`
const REST_OF_SCREEN = `${ESCAPE}J`

/** Seconds between two questions to every node. */
const LEAST = 0.1
const MOST = 60

const QUIT = ['q', 'Q', ESCAPE[0]!]

/** Where nobody looks: as wide as it gets. */
const PAPER = { columns: 10_000, rows: 10_000 }

/** What the nodes say now; without Redis that nobody says anything. */
async function ask(publisher: ScriptPublisher): Promise<Nodes> {
  return publisher.nodes().catch((error: Error) => ({ nodes: [], complete: false, problem: error.message }))
}

/** Ends early when nobody wants more. */
async function pause(seconds: number, ended: AbortSignal): Promise<void> {
  await sleep(seconds * 1000, undefined, { signal: ended }).catch(() => {})
}

async function* ticks(publisher: ScriptPublisher, seconds: number, ended: AbortSignal): AsyncGenerator<Tick> {
  const rates = new Rates()
  while (!ended.aborted) {
    const nodes = await ask(publisher)
    if (ended.aborted) return
    yield rates.next(nodes, Date.now())
    await pause(seconds, ended)
  }
}

async function watch(given: Given, desk: Desk): Promise<number> {
  const { flags } = given
  const seconds = numberIn(flags, 'every') ?? 1
  if (!(seconds >= LEAST && seconds <= MOST)) {
    throw new UsageError(`--every is ${seconds}: it must be a number of seconds from ${LEAST} to ${MOST}`)
  }
  const count =
    flags.count === undefined ? Number.POSITIVE_INFINITY : countIn(flags, 'count', { fallback: 1, most: 1e9 })
  const publisher = desk.open()
  const { screen } = desk.terminal
  const isOnce = flags.once === true || (!screen && !desk.isJson && count === Number.POSITIVE_INFINITY)
  if (isOnce) return once(publisher, seconds, desk)
  if (screen && !desk.isJson && count === Number.POSITIVE_INFINITY) return live(publisher, { seconds, screen }, desk)
  let left = count
  for await (const tick of ticks(publisher, seconds, desk.ended)) {
    desk.terminal.out(desk.isJson ? `${jsonOf(tick)}\n` : `${linesOf(tick, PAPER).join('\n')}\n\n`)
    if (--left <= 0) break
  }
  return EXIT.done
}

/** Rates need two answers. */
async function once(publisher: ScriptPublisher, seconds: number, desk: Desk): Promise<number> {
  let last: Tick | undefined
  let asked = 0
  for await (const tick of ticks(publisher, seconds, desk.ended)) {
    last = tick
    if (++asked === 2) break
  }
  if (!last) return EXIT.done
  desk.terminal.out(desk.isJson ? `${jsonOf(last)}\n` : `${linesOf(last, PAPER).join('\n')}\n`)
  return last.nodes.length > 0 ? EXIT.done : EXIT.failed
}

/** Until q or Ctrl-C. */
async function live(
  publisher: ScriptPublisher,
  { seconds, screen }: { seconds: number; screen: Screen },
  { terminal, ended }: Desk,
): Promise<number> {
  const quit = new AbortController()
  const isOver = AbortSignal.any([quit.signal, ended])
  const release = screen.take(key => QUIT.includes(key) && quit.abort())
  try {
    for await (const tick of ticks(publisher, seconds, isOver)) {
      const lines = linesOf(tick, screen.size())
      terminal.out(`${HOME}${lines.map(line => line + REST_OF_LINE).join('\r\n')}${REST_OF_SCREEN}`)
    }
  } finally {
    release()
  }
  return EXIT.done
}

export const top: Task = {
  usage: '',
  about:
    'nodes, connections, rates, latency, lag and refusals by reason, live until q; --once, or without a terminal, one ' +
    'table; --json one object a tick, --every SECONDS (1), --count N',
  flags: { once: on, every: text, count: text },
  takes: [0, 0],
  perform: watch,
}

import { setTimeout as pause } from 'node:timers/promises'
import type { Arrivals } from '../load.ts'
import type { Processes } from './scenario.ts'
import type { Load } from './side-loads.ts'

/** What is compared. `control` is `off` once more: how far equals are apart. */
export const SIDES = {
  off: {},
  metrics: { hasMetrics: true },
  limits: { hasMetrics: true, hasLimits: true },
  control: {},
} as const satisfies Record<string, { hasMetrics?: boolean; hasLimits?: boolean }>

export type SideName = keyof typeof SIDES

/** Milliseconds that a turn has at least: so often are the metrics read. */
const TURN = 1000

/** When in a turn they are read: while there is work. */
const SCRAPE_AT = 300

/** One of several registrations of a process that work in turns, with a load and a publisher of its own. */
export class Side {
  readonly name: SideName
  /** begins the names of its topics and users: all sides have the same Redis */
  readonly letter: string
  readonly processes: Processes
  readonly problems: string[] = []
  /** microseconds of CPU for each thing done, by turn */
  readonly cpu: number[] = []
  /** the same of the clock */
  readonly time: number[] = []

  constructor(name: SideName, letter: string, processes: Processes) {
    this.name = name
    this.letter = letter
    this.processes = processes
  }

  /** What was done so far was to warm up. */
  forget(): void {
    for (const values of [this.cpu, this.time]) values.length = 0
  }

  /**
   * A turn: the load, again and again, for a second. All that the process uses meanwhile is counted, and whoever has metrics is
   * asked for them once: never while another side works, since one that has a quarter of the turns would pay for all scrapes of a second.
   */
  async work(load: Load): Promise<void> {
    const { server } = this.processes
    if (load.rest) await pause(load.rest)
    await server.request('scavenge')
    const before = server.cpu()
    const began = performance.now()
    let scraping: Promise<void> | undefined
    const timer = setTimeout(() => {
      if ('hasMetrics' in SIDES[this.name]) scraping = this.scrape()
    }, SCRAPE_AT)
    let done = 0
    let spent = 0
    try {
      while (spent < TURN) {
        await load.work(this)
        done += load.size
        spent = performance.now() - began
      }
    } finally {
      clearTimeout(timer)
      await scraping
    }
    this.time.push((spent * 1000) / done)
    this.cpu.push(((server.cpu() - before) * 1e6) / done)
  }

  /** Notes what is missing of what the load was to get. */
  check({ missing, extra, gaps }: Arrivals): void {
    if (missing + extra + gaps > 0) this.problems.push(`${missing} missing, ${extra} too many, ${gaps} gaps`)
  }

  async scrape(): Promise<void> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.processes.server.port}/${this.name}/metrics`)
      const text = await response.text()
      if (!text.includes('push_connections')) throw new Error('there are no metrics in it')
    } catch (error) {
      this.problems.push(`a scrape failed: ${(error as Error).message}`)
    }
  }
}

import type { Arrivals } from '../load.ts'
import type { Processes } from './scenario.ts'

/** One of several nodes that are alive at the same time and work in turns, with a load and a publisher of its own. */
export class Side {
  readonly name: string
  /** begins the names of its topics and users: all sides have the same Redis */
  readonly letter: string
  readonly processes: Processes
  readonly problems: string[] = []
  /** microseconds of CPU for each thing done, by cycle */
  readonly cpu: number[] = []
  /** seconds at work, by cycle */
  readonly time: number[] = []
  /** milliseconds that each scrape took */
  readonly scrapes: number[] = []
  readonly #every: number
  /** milliseconds at work since the last scrape */
  #sinceScrape = 0
  #cpuBefore = 0
  #done = 0
  #seconds = 0
  #scraping: Promise<void> | undefined

  /** `every`: how many milliseconds are between scrapes of its metrics; 0 for none. */
  constructor(name: string, letter: string, processes: Processes, every: number) {
    this.name = name
    this.letter = letter
    this.processes = processes
    this.#every = every
  }

  begin(): void {
    this.#cpuBefore = this.processes.server.cpu()
    this.#done = 0
    this.#seconds = 0
  }

  /** All that the process has used since `begin` counts, so that what a collector does after the work is paid as well. */
  finish(): void {
    this.cpu.push(((this.processes.server.cpu() - this.#cpuBefore) * 1e6) / this.#done)
    this.time.push(this.#seconds)
  }

  dropFirst(): void {
    this.cpu.shift()
    this.time.shift()
  }

  /**
   * Its metrics are read once a second while it works, and never while another side does: one that is alive only a quarter of the time
   * would otherwise pay for four times as many scrapes as it should.
   */
  async work(task: () => Promise<void>, size: number): Promise<void> {
    const began = performance.now()
    let timer: NodeJS.Timeout | undefined
    const scrapeIn = (milliseconds: number) => {
      timer = setTimeout(() => {
        this.#scraping = this.#scrape()
        this.#sinceScrape -= this.#every
        scrapeIn(this.#every)
      }, milliseconds)
    }
    if (this.#every > 0) scrapeIn(Math.max(0, this.#every - this.#sinceScrape))
    try {
      await task()
    } finally {
      clearTimeout(timer)
      const spent = performance.now() - began
      this.#seconds += spent / 1000
      this.#sinceScrape += spent
      this.#done += size
      await this.#scraping
    }
  }

  async end(): Promise<void> {
    await this.#scraping
  }

  /** Notes what is missing of what the load was to get. */
  check({ missing, extra, gaps }: Arrivals): void {
    if (missing + extra + gaps > 0) this.problems.push(`${missing} missing, ${extra} too many, ${gaps} gaps`)
  }

  async #scrape(): Promise<void> {
    const began = performance.now()
    try {
      const response = await fetch(`http://127.0.0.1:${this.processes.server.port}/metrics`)
      const text = await response.text()
      if (!text.includes('push_connections')) throw new Error('there are no metrics in it')
      this.scrapes.push(performance.now() - began)
    } catch (error) {
      this.problems.push(`a scrape failed: ${(error as Error).message}`)
    }
  }
}

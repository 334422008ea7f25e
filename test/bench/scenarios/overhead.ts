import { setTimeout } from 'node:timers/promises'
import type { Shares } from '../lib/cpu-share.ts'
import { SIDES_PEER } from '../lib/peers.ts'
import { errorOf, meanOf, middleOf, quantile } from '../lib/ratios.ts'
import type { Result } from '../lib/report.ts'
import type { Outcome, Run, Scenario } from '../lib/scenario.ts'
import { SIDES, Side, type SideName } from '../lib/side.ts'
import { LOADS, type Load } from '../lib/side-loads.ts'

/**
 * All sides are one process: two processes of the same code differ by several per cent for as long as they live, by where their memory lies
 * and what was compiled first, which is more than what is looked for. They are compared with the mean of two sides that are off, and the
 * second of these with the first says how far equals are apart.
 */
const NAMES = Object.keys(SIDES) as SideName[]
const COMPARED = NAMES.slice(1)

/** A multiple of four, so that each side is at each place of a cycle equally often. */
const CYCLES = 8

/** Turns in which the side with metrics and limits has its processor time sampled. */
const PROFILED = 4

/** How often metrics are read while nothing else happens, and milliseconds from one time to the next. */
const SCRAPES = 20
const SCRAPE_EVERY = 100

/** What metrics and limits cost: registrations of one process that work in turns of a second. */
export const scenario: Scenario = {
  id: 'm',
  title:
    'metrics and limits: a registration without both (off), with metrics that are read every second, with metrics and all limits of ' +
    'the defaults, and once more without (control): CPU and time as multiples of the mean of off and control; control: of off',
  variants: Object.keys(LOADS),
  peers: [SIDES_PEER],
  deadline: 300,
  hasNoPubsubLimit: true,
  columns: [
    { key: 'off', label: 'off: µs CPU each', digits: 2 },
    ...COMPARED.map(name => ({ key: `${name} CPU`, label: `${name}: CPU`, digits: 3 })),
    ...COMPARED.map(name => ({ key: `${name} time`, label: `${name}: time`, digits: 3 })),
    { key: 'scrapeCpu', label: 'ms CPU a scrape', digits: 1 },
    { key: 'metrics share', label: 'metrics: % of samples', digits: 2 },
    { key: 'limits share', label: 'limits: % of samples', digits: 2 },
    { key: 'both shares', label: 'both: % of samples', digits: 2 },
  ],
  async run(run, variant) {
    const sides: Side[] = []
    for (const [index, name] of NAMES.entries()) {
      const { load, publisher } = index === 0 ? run : await run.openLoad()
      sides.push(new Side(name, 'abcd'[index]!, { server: run.server, load, publisher }))
    }
    return await compare(run, sides, LOADS[variant]!(run.quick))
  },
  summarize: results => results.flatMap(spreads),
}

async function compare(run: Run, sides: Side[], load: Load): Promise<Outcome> {
  for (const side of sides) await load.prepare(side)
  await cycle(sides, load, 0)
  for (const side of sides) side.forget()
  const cycles = run.quick ? 1 : CYCLES
  for (let count = 1; count <= cycles; count++) await cycle(sides, load, count)
  const outcome = report(run, sides)
  const { metrics, limits } = await profile(sides, load)
  Object.assign(outcome.metrics, {
    scrapeCpu: await scrapes(sides),
    'metrics share': metrics,
    'limits share': limits,
    'both shares': metrics! + limits!,
  })
  return outcome
}

/** After everything is measured, since sampling takes time as well. Alone: what the others do would be in the samples. */
async function profile(sides: Side[], load: Load): Promise<Shares> {
  const side = sides.find(({ name }) => name === 'limits')!
  const { server } = side.processes
  await server.request('startProfile')
  for (let turn = 0; turn < PROFILED; turn++) await side.work(load)
  return server.request<Shares>('endProfile')
}

/**
 * Everybody twice, there and back: what changes steadily meanwhile, such as the clock of a core that gets warm, adds as much to each
 * side. Each cycle begins with another side, because the last one works twice in a row.
 */
async function cycle(sides: Side[], load: Load, count: number): Promise<void> {
  const order = sides.map((_, index) => sides[(index + count) % sides.length]!)
  for (const side of [...order, ...order.toReversed()]) await side.work(load)
}

/** Milliseconds of CPU that a scrape costs while nothing else happens: what the process uses more than without. */
async function scrapes(sides: Side[]): Promise<number> {
  const side = sides.find(({ name }) => name === 'metrics')!
  const { server } = side.processes
  const during = async (task: () => Promise<void>) => {
    const before = server.cpu()
    for (let count = 0; count < SCRAPES; count++) await Promise.all([task(), setTimeout(SCRAPE_EVERY)])
    return (server.cpu() - before) * 1000
  }
  const idle = async () => {}
  // What the load has left behind.
  await during(idle)
  return ((await during(() => side.scrape())) - (await during(idle))) / SCRAPES
}

function report(run: Run, sides: Side[]): Outcome {
  const [off, ...others] = sides as [Side, ...Side[]]
  const metrics: Outcome['metrics'] = {
    complete: Number(sides.every(({ problems }) => problems.length === 0)),
    off: middleOf(off.cpu),
  }
  const pairs: Record<string, number[]> = {}
  const control = others.at(-1)!
  for (const side of others) {
    const bases = side === control ? [off] : [off, control]
    const multiple = (of: 'cpu' | 'time') => middleOf(side[of]) / meanOf(bases.map(base => middleOf(base[of])))
    metrics[`${side.name} CPU`] = multiple('cpu')
    metrics[`${side.name} time`] = multiple('time')
    pairs[side.name] = side.cpu.map((cpu, index) => cpu / meanOf(bases.map(base => base.cpu[index]!)))
  }
  const notes = sides.flatMap(({ name, problems }) => problems.slice(0, 1).map(problem => `${name}: ${problem}`))
  return { metrics, notes: notes.map(note => `${run.peer.name}: ${note}`), pairs }
}

/** A round has a process of its own, so rounds are what the mean and its error are made of; the pairs show how it is within them. */
function spreads({ runs }: Result): string[] {
  const lines = COMPARED.map(name => {
    const rounds = runs.map(run => run.metrics[`${name} CPU`]!)
    const [low, middle, high] = [0.25, 0.5, 0.75].map(share => quantile(rounds, share).toFixed(3))
    const mean = `${meanOf(rounds).toFixed(3)} ± ${errorOf(rounds).toFixed(3)}`
    const pairs = runs.flatMap(run => run.pairs?.[name] ?? [])
    return (
      `- ${name}, CPU: mean of ${rounds.length} rounds ${mean} (standard error), median ${middle}, half of them between ${low} and ` +
      `${high}; median of ${pairs.length} pairs ${middleOf(pairs).toFixed(3)}`
    )
  })
  return [...lines, '']
}

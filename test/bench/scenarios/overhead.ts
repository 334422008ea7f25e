import type { Shares } from '../lib/cpu-share.ts'
import { BARE_NODE } from '../lib/peers.ts'
import { errorOf, meanOf, middleOf, quantile } from '../lib/ratios.ts'
import type { Result } from '../lib/report.ts'
import type { Outcome, Run, Scenario } from '../lib/scenario.ts'
import { Side } from '../lib/side.ts'
import { LOADS, type Load } from '../lib/side-loads.ts'

/**
 * What is compared, and the process that does it. Two processes of the same code differ by several per cent for as long as they live, by
 * where their memory lies and what was compiled first. So the others are compared with the mean of two nodes that are off, and the second
 * of these with the first says how far equals are apart.
 */
const SIDES: Record<string, string> = {
  off: BARE_NODE.name,
  metrics: 'ours-metrics',
  limits: 'ours-limits',
  control: BARE_NODE.name,
}
const COMPARED = ['metrics', 'limits', 'control']

/**
 * A multiple of four, so that each side is at each place of a cycle equally often. No more than that: what is uncertain lies between
 * processes, so time is better spent on new ones, which is what `--repeat` asks for.
 */
const CYCLES = 4

/** Cycles in which the node with metrics and limits has its processor time sampled. */
const PROFILED = 1

/** What metrics and limits cost: nodes that live at the same time and work in turns, for less than a second each. */
export const scenario: Scenario = {
  id: 'm',
  title:
    'metrics and limits: a node without both (off), with metrics that are read every second, with metrics and all limits of ' +
    'the defaults, and once more without (control): CPU and time as multiples of the mean of off and control; control: of off',
  variants: Object.keys(LOADS),
  peers: [BARE_NODE],
  deadline: 300,
  hasNoPubsubLimit: true,
  columns: [
    { key: 'off', label: 'off: µs CPU each', digits: 2 },
    ...COMPARED.map(name => ({ key: `${name} CPU`, label: `${name}: CPU`, digits: 3 })),
    ...COMPARED.map(name => ({ key: `${name} time`, label: `${name}: time`, digits: 3 })),
    { key: 'scrapeMs', label: 'scrape ms', digits: 1 },
    { key: 'metrics share', label: 'metrics: % of samples', digits: 2 },
    { key: 'limits share', label: 'limits: % of samples', digits: 2 },
    { key: 'both shares', label: 'both: % of samples', digits: 2 },
  ],
  async run(run, variant) {
    const sides: Side[] = []
    try {
      for (const [index, [name, peer]] of Object.entries(SIDES).entries()) {
        const processes = index === 0 ? run : await run.another(peer)
        sides.push(new Side(name, 'abcd'[index]!, processes, peer === BARE_NODE.name ? 0 : 1000))
      }
      return await compare(run, sides, LOADS[variant]!(run.quick))
    } finally {
      await Promise.all(sides.map(side => side.end()))
    }
  },
  summarize: results => results.flatMap(spreads),
}

async function compare(run: Run, sides: Side[], load: Load): Promise<Outcome> {
  for (const side of sides) await load.prepare(side)
  // Once unmeasured: none is measured cold.
  await cycle(sides, load, 0)
  const cycles = run.quick ? 1 : CYCLES
  for (let count = 1; count <= cycles; count++) await cycle(sides, load, count)
  for (const side of sides) side.dropFirst()
  const outcome = report(run, sides)
  const { metrics, limits } = await profile(sides, load)
  Object.assign(outcome.metrics, {
    'metrics share': metrics,
    'limits share': limits,
    'both shares': metrics! + limits!,
  })
  return outcome
}

/**
 * After everything is measured, since sampling takes time as well. The others go on taking their turns: alone, this node would soon be
 * asked for more connections than a second may have.
 */
async function profile(sides: Side[], load: Load): Promise<Shares> {
  const { server } = sides.find(({ name }) => name === 'limits')!.processes
  await server.request('startProfile')
  for (let count = 1; count <= PROFILED; count++) await cycle(sides, load, count)
  return server.request<Shares>('endProfile')
}

/**
 * Everybody twice, there and back: what changes steadily meanwhile, such as the clock of a core that gets warm, adds as much to each
 * side. Each cycle begins with another side, because the last one works twice in a row.
 */
async function cycle(sides: Side[], load: Load, count: number): Promise<void> {
  const order = sides.map((_, index) => sides[(index + count) % sides.length]!)
  for (const side of sides) side.begin()
  for (const side of [...order, ...order.toReversed()]) await side.work(() => load.work(side), load.size)
  for (const side of sides) side.finish()
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
  metrics.scrapeMs = middleOf(others.flatMap(({ scrapes }) => scrapes))
  const notes = sides.flatMap(({ name, problems }) => problems.slice(0, 1).map(problem => `${name}: ${problem}`))
  return { metrics, notes: notes.map(note => `${run.peer.name}: ${note}`), pairs }
}

/** A round has processes of its own, so rounds are what the mean and its error are made of; the pairs show how it is within them. */
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

import type { NodeReport, Sample } from './reports.ts'

/** Seconds of one point of a chart, as nodes sample. */
export const STEP = 5000
/** Ten minutes. */
export const POINTS = 120

/** How long a value holds when the next sample is missing, in points: one that has not come yet, not a node that is gone. */
const HOLDS = 2

/** One value for each point, undefined where nothing is known. */
export type Series = readonly (number | undefined)[]

type Key = Exclude<keyof Sample, 'at'>

/** The last ten minutes of all nodes, on the clock of the page. `end`: when the last point ends. */
export interface Timeline {
  end: number
  /** So many a second, all nodes together. */
  rate(key: Key): Series
  /** All nodes together. */
  sum(key: Key): Series
  /** That of each process once. */
  sumOfProcesses(key: Key): Series
  /** The highest of any node. */
  most(key: Key): Series
}

/** `at`: when the reports came. Clocks of nodes may be wrong: only the age of a sample counts. */
export function timelineOf(nodes: readonly NodeReport[], at: number): Timeline {
  const end = Math.floor(at / STEP) * STEP
  const lines = nodes.map(({ node, now, samples }) => ({
    node,
    samples: samples.map(sample => ({ ...sample, at: at - Math.max(0, now - sample.at) })).sort((a, b) => a.at - b.at),
  }))
  const processes = [...new Map(lines.map(line => [line.node, line])).values()]
  const add = (a: number, b: number) => a + b
  return {
    end,
    rate: key =>
      merge(
        lines.map(({ samples }) => ratesOf(samples, key, end)),
        add,
      ),
    sum: key =>
      merge(
        lines.map(({ samples }) => levelsOf(samples, key, end)),
        add,
      ),
    sumOfProcesses: key =>
      merge(
        processes.map(({ samples }) => levelsOf(samples, key, end)),
        add,
      ),
    most: key =>
      merge(
        lines.map(({ samples }) => levelsOf(samples, key, end)),
        Math.max,
      ),
  }
}

/**
 * Samples count what came since the one before, and no two nodes sample at the same time: each amount is spread over
 * its own time, else points would jump between nothing and twice as much.
 */
function ratesOf(samples: readonly Sample[], key: Key, end: number): Series {
  const amounts = new Float64Array(POINTS)
  const covered = new Float64Array(POINTS)
  const begin = end - POINTS * STEP
  for (const [n, sample] of samples.entries()) {
    // A sample after a pause, for example of a machine that slept, is no rate of all that time.
    const from = Math.max(samples[n - 1]?.at ?? sample.at - STEP, sample.at - 3 * STEP)
    const length = sample.at - from
    if (length <= 0) continue
    const first = Math.max(0, Math.floor((from - begin) / STEP))
    for (let point = first; point < POINTS && begin + point * STEP < sample.at; point++) {
      const overlap = Math.min(sample.at, begin + (point + 1) * STEP) - Math.max(from, begin + point * STEP)
      amounts[point]! += (sample[key] * overlap) / length
      covered[point]! += overlap
    }
  }
  return hold(
    Array.from(amounts, (amount, point) => (covered[point]! > 0 ? amount / (covered[point]! / 1000) : undefined)),
  )
}

function levelsOf(samples: readonly Sample[], key: Key, end: number): Series {
  const levels: (number | undefined)[] = new Array(POINTS).fill(undefined)
  const begin = end - POINTS * STEP
  for (const sample of samples) {
    const point = Math.floor((sample.at - begin) / STEP)
    if (point >= 0 && point < POINTS) levels[point] = sample[key]
  }
  return hold(levels)
}

function hold(values: readonly (number | undefined)[]): Series {
  let last: number | undefined
  let age = 0
  return values.map(value => {
    age = value === undefined ? age + 1 : 0
    if (value !== undefined) last = value
    return age <= HOLDS ? last : undefined
  })
}

function merge(all: readonly Series[], join: (a: number, b: number) => number): Series {
  return Array.from({ length: POINTS }, (_, point) =>
    all.reduce<number | undefined>((sum, series) => {
      const value = series[point]
      if (value === undefined) return sum
      return sum === undefined ? value : join(sum, value)
    }, undefined),
  )
}

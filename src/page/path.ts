import type { Series } from './series.ts'

/** A chart is drawn in this box and stretched to its place: lines keep their width, and texts are not in it. */
export const WIDTH = 600
export const HEIGHT = 100

const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]

/** Where a scale ends that begins at 0: a round number, so that it does not change with every point. */
export function niceCeiling(highest: number): number {
  if (!(highest > 0) || !Number.isFinite(highest)) return 1
  const power = 10 ** Math.floor(Math.log10(highest))
  const step = ROUND.find(it => highest <= it * power * (1 + 1e-9)) ?? 10
  return step * power
}

export const highestOf = (series: Series) => series.reduce<number>((most, it) => Math.max(most, it ?? 0), 0)

const text = (value: number) => String(Math.round(value * 100) / 100)

/** The points between holes, each as `x,y`. */
function stretches(series: Series, ceiling: number): string[][] {
  const all: string[][] = []
  let isOpen = false
  for (const [n, value] of series.entries()) {
    if (value === undefined) {
      isOpen = false
      continue
    }
    if (!isOpen) all.push([])
    isOpen = true
    const y = HEIGHT * (1 - Math.min(Math.max(value / ceiling, 0), 1))
    all.at(-1)!.push(`${text((n / Math.max(1, series.length - 1)) * WIDTH)},${text(y)}`)
  }
  return all
}

/** A single point between two holes would be no line: it gets a length of nearly nothing, which round ends make a dot. */
export function linePath(series: Series, ceiling: number): string {
  return stretches(series, ceiling)
    .map(points => `M${points.join('L')}${points.length === 1 ? 'h.1' : ''}`)
    .join('')
}

export function areaPath(series: Series, ceiling: number): string {
  const x = (point: string) => point.split(',', 1)[0]
  return stretches(series, ceiling)
    .filter(points => points.length > 1)
    .map(points => `M${x(points[0]!)},${HEIGHT}L${points.join('L')}L${x(points.at(-1)!)},${HEIGHT}Z`)
    .join('')
}

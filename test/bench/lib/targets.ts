import type { Result } from './report.ts'
import { LOADS } from './side-loads.ts'

/** A target: a ratio of two medians of the same run, or a plain number. */
interface Target {
  scenario: string
  variant: string
  metric: string
  /** whose; default: ours */
  peer?: string
  against?: string
  againstVariant?: string
  least?: number
  most?: number
}

const TARGETS: Target[] = [
  ...['1000x1000', '5000x200'].flatMap(variant => [
    { scenario: 'a', variant, metric: 'rate', against: 'textbook', least: 25 },
    { scenario: 'a', variant, metric: 'rate', against: 'socketio', least: 12 },
    { scenario: 'a', variant, metric: 'rate', against: 'joined', least: 0.6 },
  ]),
  { scenario: 'b', variant: 'paced', metric: 'cpuPerDelivery', against: 'textbook', most: 0.7 },
  { scenario: 'b', variant: 'paced', metric: 'p99', against: 'bare', most: 1.3 },
  { scenario: 'b', variant: 'steady', metric: 'delivered', least: 100 },
  { scenario: 'b', variant: 'steady', metric: 'p99', against: 'joined', most: 1.15 },
  ...['warm', 'long', 'lasting'].flatMap(variant => [
    { scenario: 'c', variant, metric: 'rate', against: 'ws', least: 2.5 },
    { scenario: 'c', variant, metric: 'rate', against: 'joined', least: 0.8 },
    { scenario: 'c', variant, metric: 'complete', least: 1 },
  ]),
  ...['2', '5', '20', '2 lasting', '5 lasting', '20 lasting'].flatMap(variant => [
    { scenario: 'i', variant, metric: 'rate', against: 'ws', least: 2.5 },
    { scenario: 'i', variant, metric: 'rate', against: 'joined', least: 0.8 },
  ]),
  { scenario: 'd', variant: 'idle', metric: 'rssPer', against: 'textbook', most: 1 },
  ...['textbook', 'ws', 'socketio'].map(against => ({
    scenario: 'e',
    variant: 'mixed',
    metric: 'rate',
    against,
    least: 5,
  })),
  { scenario: 'f', variant: 'stalled', metric: 'p99', against: 'ours', againstVariant: 'reading', most: 1.2 },
  { scenario: 'g', variant: 'responsive', metric: 'maxDelay', most: 50 },
  { scenario: 'd', variant: 'idle', metric: 'rssPer', against: 'ws', most: 1 },
  ...['5000', '10000'].flatMap(variant => [
    { scenario: 'h', variant, metric: 'live', against: 'socketio', most: 1 },
    { scenario: 'h', variant, metric: 'live', against: 'wsfastify', most: 1.5 },
    { scenario: 'h', variant, metric: 'cpuPerClient', against: 'wsfastify', most: 1.5 },
  ]),
  // Ratios already.
  ...Object.keys(LOADS).flatMap(variant => [
    { scenario: 'm', variant, peer: 'ours-sides', metric: 'metrics CPU', most: 1.03 },
    { scenario: 'm', variant, peer: 'ours-sides', metric: 'limits CPU', most: 1.05 },
    { scenario: 'm', variant, peer: 'ours-sides', metric: 'metrics share', most: 3 },
    { scenario: 'm', variant, peer: 'ours-sides', metric: 'both shares', most: 5 },
  ]),
]

/** A line for each target that this run can judge. */
export function judge(results: Result[]): string[] {
  return TARGETS.flatMap(target => {
    const { scenario, variant, metric, peer = 'ours', against, againstVariant = variant, least, most } = target
    const find = (peer: string, of: string) =>
      results.find(result => result.scenario === scenario && result.variant === of && result.peer === peer)?.median
    const ours = find(peer, variant)?.[metric]
    const other = against === undefined ? 1 : find(against, againstVariant)?.[metric]
    if (ours === undefined || !other) return []
    const value = ours / other
    const met = value >= (least ?? Number.NEGATIVE_INFINITY) && value <= (most ?? Number.POSITIVE_INFINITY)
    const wanted = least === undefined ? `at most ${most}` : `at least ${least}`
    const over = against === undefined ? '' : ` ÷ ${against}${againstVariant === variant ? '' : ` (${againstVariant})`}`
    return `${met ? 'met   ' : 'MISSED'} ${scenario} ${variant}: ${metric}${over} = ${value.toFixed(2)}, wanted ${wanted}`
  })
}

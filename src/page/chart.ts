import { el, setText, svg } from './dom.ts'
import { clockText } from './format.ts'
import { areaPath, HEIGHT, highestOf, linePath, niceCeiling, WIDTH } from './path.ts'
import { POINTS, type Series, STEP } from './series.ts'

/** One line over ten minutes, which can be read point by point with the pointer and with arrow keys. */
export class Chart {
  readonly element: HTMLElement
  readonly #format: (value: number) => string
  readonly #now = el('strong')
  readonly #scale = el('span', { class: 'scale' })
  readonly #readout = el('span', { class: 'readout' })
  readonly #line = svg('path', { class: 'line' })
  readonly #area = svg('path', { class: 'area' })
  readonly #guide = svg('path', { class: 'guide' })
  readonly #plot: HTMLElement
  #series: Series = []
  #end = 0
  /** The point that is looked at; undefined: the last one. */
  #point: number | undefined

  constructor(title: string, format: (value: number) => string) {
    this.#format = format
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }
    const grid = svg('path', { class: 'grid', d: `M0,0H${WIDTH}M0,${HEIGHT / 2}H${WIDTH}M0,${HEIGHT}H${WIDTH}` })
    this.#plot = el('div', { class: 'plot', role: 'slider', tabindex: '0', 'aria-label': `${title}, over ten minutes` })
    this.#plot.append(svg('svg', box, grid, this.#area, this.#line, this.#guide), this.#scale, this.#readout)
    this.#plot.setAttribute('aria-valuemin', '0')
    this.#plot.setAttribute('aria-valuemax', `${POINTS - 1}`)
    const head = el('figcaption', {}, el('span', {}, title), this.#now)
    const axis = el(
      'div',
      { class: 'axis', 'aria-hidden': 'true' },
      el('span', {}, '10 min ago'),
      el('span', {}, 'now'),
    )
    this.element = el('figure', { class: 'chart' }, head, this.#plot, axis)
    this.#listen()
    this.#look(undefined)
  }

  /** `now`: what stands beside the title. */
  show(series: Series, end: number, now: number | undefined): void {
    this.#series = series
    this.#end = end
    // A line that is flat and full would hide in the edge.
    const ceiling = niceCeiling(highestOf(series) * 1.05)
    this.#line.setAttribute('d', linePath(series, ceiling))
    this.#area.setAttribute('d', areaPath(series, ceiling))
    setText(this.#scale, series.some(it => it !== undefined) ? this.#format(ceiling) : '')
    this.showNow(now)
    this.#look(this.#point)
  }

  showNow(now: number | undefined): void {
    setText(this.#now, now === undefined ? '–' : this.#format(now))
  }

  #listen(): void {
    this.#plot.addEventListener('pointermove', ({ clientX }) => {
      const { left, width } = this.#plot.getBoundingClientRect()
      this.#look(Math.round(((clientX - left) / Math.max(1, width)) * (POINTS - 1)))
    })
    this.#plot.addEventListener('pointerleave', () => this.#look(undefined))
    this.#plot.addEventListener('blur', () => this.#look(undefined))
    this.#plot.addEventListener('keydown', event => {
      const from = this.#point ?? POINTS - 1
      const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: POINTS - 1 }[event.key]
      if (to === undefined) return
      event.preventDefault()
      this.#look(to)
    })
  }

  #look(at: number | undefined): void {
    const point = at === undefined ? undefined : Math.min(Math.max(at, 0), POINTS - 1)
    this.#point = point
    const shown = point ?? POINTS - 1
    const value = this.#series[shown]
    const said = `${clockText(this.#end - (POINTS - 1 - shown) * STEP)}  ${value === undefined ? '–' : this.#format(value)}`
    setText(this.#readout, point === undefined ? '' : said)
    this.#guide.setAttribute('d', point === undefined ? '' : `M${(point / (POINTS - 1)) * WIDTH},0V${HEIGHT}`)
    this.#plot.setAttribute('aria-valuenow', `${shown}`)
    this.#plot.setAttribute('aria-valuetext', said)
  }
}

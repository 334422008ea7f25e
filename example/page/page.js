// @ts-check
/// <reference lib="dom" />
// @ts-expect-error: the plugin serves it
import { connect } from '/ws/client.js'

const WINDOW = 60_000
const PROBE_EVERY = 1_000
const KEPT = 200
const TEXT_MAX = 2_000
const COLOURS = ['t0', 't1', 't2', 't3', 't4', 't5', 't6', 't7']
const PROBE = COLOURS.length
const calm = matchMedia('(prefers-reduced-motion: reduce)')
const dark = matchMedia('(prefers-color-scheme: dark)')

/** @param {string} id @returns {any} */
const $ = id => document.getElementById(id)
/** @param {string} name */
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
/** @param {string} tag @param {string} [text] @returns {any} */
const make = (tag, text = '') => Object.assign(document.createElement(tag), { textContent: text })
/** @param {string} text */
const hueOf = text => [...text].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) % 360, 7)

/** The topics seen so far, in the order that gives them their colours. @type {Map<string, number>} */
const colours = new Map()
/** @param {string} topic */
function colourOf(topic) {
  const key = topic.replace(/^connection:.*/, 'connection')
  if (!colours.has(key) && colours.size < 500) colours.set(key, colours.size % COLOURS.length)
  return colours.get(key) ?? hueOf(key) % COLOURS.length
}

/**
 * The last minute. Every dot is drawn once, on a layer that is used as a ring and copied to the canvas at each frame:
 * what a frame costs depends on what has arrived since the last one, not on what a minute holds.
 */
class Chart {
  static SIZE = 2 ** 16
  static SPILL = 8
  static LEFT = 52
  static LANE = 64
  static FOOT = 22
  static TOP = 12
  times = new Float64Array(Chart.SIZE)
  /** Milliseconds; negative for messages whose latency nobody knows: they get a row for each colour in the lane. */
  heights = new Float32Array(Chart.SIZE)
  tints = new Uint8Array(Chart.SIZE)
  added = 0
  drawn = 0
  cleared = 0
  /** @type {{ from: number, to: number }[]} */
  absences = []
  /** @type {{ at: number, colour: string, label: string }[]} */
  marks = []
  layer = document.createElement('canvas')
  ink = /** @type {CanvasRenderingContext2D} */ (this.layer.getContext('2d'))

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    /** All lengths but those of the layer are in CSS pixels. */
    this.ratio = 1
    this.width = this.height = this.bottom = this.columns = this.spill = 0
    this.palette = ['']
    this.theme = { line: '', muted: '', away: '' }
    this.canvas = canvas
    this.view = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
    new ResizeObserver(() => this.reset()).observe(canvas)
    dark.addEventListener('change', () => this.reset())
    this.reset()
  }

  /** @param {number} at @param {number} height @param {number} tint */
  add(at, height, tint) {
    const index = this.added++ % Chart.SIZE
    this.times[index] = at
    this.heights[index] = height
    this.tints[index] = tint
  }

  /** @param {number} at @param {string} colour @param {string} label */
  mark(at, colour, label) {
    this.marks = [...this.marks.slice(-50), { at, colour, label }]
  }

  /** @param {boolean} isOpen */
  present(isOpen) {
    const now = performance.now()
    const last = this.absences.at(-1)
    const isAway = last?.to === Number.POSITIVE_INFINITY
    if (isOpen && last && isAway) last.to = now
    if (!isOpen && !isAway) this.absences = [...this.absences.slice(-50), { from: now, to: Number.POSITIVE_INFINITY }]
  }

  reset() {
    const { width, height } = this.canvas.getBoundingClientRect()
    this.ratio = devicePixelRatio || 1
    this.width = width
    this.height = height
    this.bottom = height - Chart.FOOT - Chart.LANE
    this.columns = Math.max(1, Math.round((width - Chart.LEFT) * this.ratio))
    this.spill = Math.ceil(Chart.SPILL * this.ratio)
    this.canvas.width = Math.round(width * this.ratio)
    this.canvas.height = this.layer.height = Math.round(height * this.ratio)
    this.layer.width = this.columns + 2 * this.spill
    this.drawn = this.cleared = 0
    this.palette = [...COLOURS.map(name => css(`--${name}`)), css('--probe')]
    this.theme = { line: css('--line'), muted: css('--muted'), away: css('--away') }
  }

  /** @param {number} ms */
  yOf(ms) {
    return this.bottom - (Math.log10(Math.min(10_000, Math.max(1, ms))) / 4) * (this.bottom - Chart.TOP)
  }

  /** @param {number} at */
  columnOf(at) {
    return Math.floor((at * this.columns) / WINDOW)
  }

  /** @param {number} now */
  draw(now) {
    if (!this.canvas.width || !this.canvas.height) return
    this.paint(now)
    const { view, width, height, bottom, ratio, theme } = this
    const head = this.columnOf(now)
    const xOf = (/** @type {number} */ at) => width - 1 - (head - this.columnOf(at)) / ratio
    view.setTransform(ratio, 0, 0, ratio, 0, 0)
    view.clearRect(0, 0, width, height)
    view.fillStyle = theme.away
    for (const { from, to } of this.absences) {
      const left = Math.max(Chart.LEFT, xOf(from))
      const right = xOf(Math.min(now, to))
      if (right > left) view.fillRect(left, Chart.TOP, right - left, bottom + Chart.LANE - Chart.TOP)
    }
    this.drawAxes()
    this.copyLayer(head)
    for (const [n, mark] of this.marks.entries()) if (xOf(mark.at) > Chart.LEFT) this.drawMark(xOf(mark.at), n, mark)
  }

  drawAxes() {
    const { view, width, height, bottom, theme } = this
    view.font = '11px system-ui, sans-serif'
    view.textBaseline = 'middle'
    view.textAlign = 'right'
    for (const [power, label] of ['1 ms', '10 ms', '100 ms', '1 s', '10 s'].entries()) {
      const y = Math.round(this.yOf(10 ** power))
      view.fillStyle = theme.line
      view.fillRect(Chart.LEFT, y, width - Chart.LEFT, 1)
      view.fillStyle = theme.muted
      view.fillText(label, Chart.LEFT - 8, y)
    }
    view.fillText('others', Chart.LEFT - 8, bottom + Chart.LANE / 2 + 4)
    view.fillStyle = theme.line
    view.fillRect(Chart.LEFT, bottom + Chart.LANE, width - Chart.LEFT, 1)
    view.fillStyle = theme.muted
    for (const seconds of width < 480 ? [60, 30, 0] : [60, 45, 30, 15, 0]) {
      view.textAlign = seconds === 0 ? 'right' : seconds === 60 ? 'left' : 'center'
      const x = width - ((width - Chart.LEFT) * seconds) / 60
      view.fillText(seconds === 0 ? 'now' : `${seconds} s ago`, x, height - 8)
    }
  }

  /** @param {number} x @param {number} n @param {{ colour: string, label: string }} mark */
  drawMark(x, n, { colour, label }) {
    const { view, bottom, width } = this
    const isRight = x > width - 90
    view.fillStyle = colour
    view.fillRect(x, Chart.TOP, 1.5, bottom + Chart.LANE - Chart.TOP)
    view.textAlign = isRight ? 'right' : 'left'
    view.fillText(label, x + (isRight ? -5 : 6), Chart.TOP + 9 + 15 * (n % 2))
  }

  /** Draws what is new on the ring, whose columns ahead of now are cleared first. @param {number} now */
  paint(now) {
    const { ink, layer, ratio, bottom } = this
    const ahead = this.columnOf(now) + this.spill
    const stale = Math.min(layer.width, ahead - this.cleared)
    const from = (ahead - stale) % layer.width
    ink.clearRect(from, 0, stale, layer.height)
    ink.clearRect(0, 0, from + stale - layer.width, layer.height)
    this.cleared = ahead
    for (this.drawn = Math.max(this.drawn, this.added - Chart.SIZE); this.drawn < this.added; this.drawn++) {
      const index = this.drawn % Chart.SIZE
      if (this.times[index] < now - WINDOW) continue
      const x = this.columnOf(this.times[index]) % layer.width
      const height = this.heights[index]
      ink.fillStyle = this.palette[this.tints[index]]
      if (height < 0) {
        const y = Math.round((bottom + 6 + ((this.tints[index] - height) / COLOURS.length) * (Chart.LANE - 8)) * ratio)
        ink.fillRect(x - ratio, y - ratio, 2 * ratio, 2 * ratio)
      } else {
        ink.beginPath()
        ink.arc(x, this.yOf(height) * ratio, 2.5 * ratio, 0, 2 * Math.PI)
        ink.fill()
      }
    }
  }

  /** @param {number} head */
  copyLayer(head) {
    const { view, layer, columns } = this
    const left = this.canvas.width - columns
    const start = (((head - columns) % layer.width) + layer.width) % layer.width
    const first = Math.min(columns, layer.width - start)
    view.setTransform(1, 0, 0, 1, 0, 0)
    view.drawImage(layer, start, 0, first, layer.height, left, 0, first, layer.height)
    if (first < columns)
      view.drawImage(layer, 0, 0, columns - first, layer.height, left + first, 0, columns - first, layer.height)
    view.setTransform(this.ratio, 0, 0, this.ratio, 0, 0)
  }
}

/** The last messages, written to the page ten times a second at most. */
class Log {
  /** @type {{ at: Date, topic: string, text: string }[]} */
  entries = []
  received = 0
  shown = 0
  isPaused = false
  painted = 0

  /** @param {string} topic @param {string} text */
  add(topic, text) {
    this.received++
    this.entries.push({ at: new Date(), topic, text: text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text })
    if (this.entries.length > 2 * KEPT) this.entries.splice(0, KEPT)
  }

  /** @param {number} now */
  draw(now) {
    if (now - this.painted < 100) return
    this.painted = now
    const waiting = this.received - this.shown
    $('count').textContent = this.isPaused ? `paused, ${waiting.toLocaleString('en')} more since` : ''
    if (waiting === 0 || this.isPaused) return
    this.shown = this.received
    $('empty').hidden = true
    $('log').hidden = false
    $('log').prepend(...this.entries.slice(-Math.min(waiting, KEPT)).map(rowOf).reverse())
    while ($('log').childElementCount > KEPT) $('log').lastChild.remove()
  }
}

/** @param {{ at: Date, topic: string, text: string }} entry */
function rowOf({ at, topic, text }) {
  const row = Object.assign(make('li'), { className: 'entry' })
  const name = make('span')
  name.append(dotOf(topic), make('b', topic))
  const time = `${at.toLocaleTimeString('en-GB')}.${String(at.getMilliseconds()).padStart(3, '0')}`
  row.append(make('time', time), name, make('code', text))
  return row
}

/** @param {string} topic */
function dotOf(topic) {
  const dot = make('i')
  dot.style.setProperty('--dot', `var(--t${colourOf(topic)})`)
  return dot
}

let raw = ''
/** Keeps the text of the message at hand, which the client hands on parsed. */
class TappedSocket extends WebSocket {
  /** @param {string} url */
  constructor(url) {
    super(url)
    this.addEventListener('message', event => {
      raw = String(event.data)
    })
  }
}

const query = new URLSearchParams(location.search)
const user = query.get('user') ?? ''
const channels = new Set((query.get('topics') ?? 'channel:demo').split(',').filter(Boolean))
const chart = new Chart($('chart'))
const log = new Log()
/** @type {{ at: number, ms: number }[]} */
let probes = []
let gaps = 0
let node = ''

/** @type {import('../../src/client/index.ts').Client<any>} */
const client = connect(user ? `/ws?user=${encodeURIComponent(user)}` : '/ws', {
  topics: [...channels],
  WebSocket: TappedSocket,
})
client.on('*', (payload, { type, topic = '' }) => {
  const now = performance.now()
  const { sent } = type === 'probe' ? Object(payload) : {}
  if (Number.isFinite(sent) && topic === `connection:${client.welcome?.connection}`) {
    probes = [...probes.filter(({ at }) => at > now - WINDOW), { at: now, ms: now - sent }]
    chart.add(now, now - sent, PROBE)
    if (client.state === 'open') say('')
  } else {
    chart.add(now, -0.25 - 0.5 * Math.random(), colourOf(topic))
    log.add(topic, raw)
  }
})
client.listen('state', ({ state, code, reason }) => {
  chart.present(state === 'open')
  $('state').dataset.state = state
  $('state').textContent = state === 'waiting' ? 'reconnecting' : state
  if (state === 'closed') say(`The server closed this connection and does not want it back: ${code} ${reason}`)
  else if (state === 'open') say('')
})
client.listen('welcome', welcome => {
  const colour = `oklch(${dark.matches ? '80% 0.11' : '50% 0.15'} ${hueOf(welcome.node)})`
  if (welcome.node !== node) chart.mark(performance.now(), colour, `node ${welcome.node}`)
  node = welcome.node
  $('node').textContent = node
  $('node').style.setProperty('--dot', colour)
  showTopics(Object.keys(welcome.topics))
})
client.listen('gap', ({ reason }) => {
  gaps++
  chart.mark(performance.now(), css('--bad'), `gap: ${reason}`)
})
client.listen('error', ({ code, message }) => say(`${code}: ${message}`))
client.listen('unreachable', ({ message }) => say(message))

/** @param {string} text */
function say(text) {
  if ($('notice').textContent !== text) $('notice').replaceChildren(...(text ? [make('p', text)] : []))
}

/** @param {string[]} own */
function showTopics(own) {
  const named = (/** @type {string} */ kind) => own.filter(topic => topic.startsWith(kind))
  const topics = [...new Set([...named('user:'), ...channels, ...named('channel:'), 'all', ...named('connection:')])]
  const probe = make('li')
  probe.append(make('i'), make('span', 'probe'))
  probe.firstChild.style.setProperty('--dot', 'var(--probe)')
  $('topics').replaceChildren(probe, ...topics.map(chipOf), $('join').parentElement)
  const chosen = topics.includes($('target').value) ? $('target').value : defaultTopic(topics)
  $('target').replaceChildren(...topics.map(topic => new Option(topic)))
  $('target').value = chosen
  showLines()
}

/** @param {string[]} topics */
function defaultTopic(topics) {
  return topics.find(topic => topic.startsWith('user:') || channels.has(topic)) ?? 'all'
}

/** @param {string} topic */
function chipOf(topic) {
  const chip = make('li')
  chip.append(dotOf(topic), Object.assign(make('span', topic), { title: topic }))
  if (!channels.has(topic)) return chip
  const leave = Object.assign(make('button', '×'), { type: 'button', ariaLabel: `Unsubscribe from ${topic}` })
  leave.addEventListener('click', () => {
    client.unsubscribe(topic)
    channels.delete(topic)
    channelsChanged()
  })
  chip.append(leave)
  return chip
}

function channelsChanged() {
  query.set('topics', [...channels].join(','))
  history.replaceState(null, '', `?${query}`)
  showTopics(Object.keys(client.welcome?.topics ?? {}))
}

/** Asks for the lines: the server knows its address, its key and how to quote a topic for a shell. */
async function showLines() {
  const topic = $('target').value
  /** @type {any} */
  const answer = await client.request('broker', { topic }).catch(() => undefined)
  if (!answer || topic !== $('target').value) return
  $('broker').textContent = answer.broker === 'redis' ? `Redis · ${answer.redisPrefix}` : answer.broker
  $('secrets').hidden = answer.isLocal
  for (const element of document.querySelectorAll('[data-line]')) {
    const line = answer.lines[/** @type {HTMLElement} */ (element).dataset.line ?? '']
    const [code, button] = [element.querySelector('code'), element.querySelector('button')]
    if (code) code.textContent = line ?? '# REDIS_URL=redis://127.0.0.1:6379 npm start'
    if (button) button.disabled = !line
  }
}

/** @param {HTMLButtonElement} button @param {HTMLElement} code */
async function copy(button, code) {
  const done = await navigator.clipboard?.writeText(code.textContent ?? '').then(
    () => true,
    () => false,
  )
  // Without HTTPS there is no clipboard beyond this machine.
  if (!done) getSelection()?.selectAllChildren(code)
  button.textContent = done ? 'Copied' : 'Selected'
  setTimeout(() => Object.assign(button, { textContent: 'Copy' }), 1_500)
}

for (const element of document.querySelectorAll('[data-line]')) {
  const [code, button] = [element.querySelector('code'), element.querySelector('button')]
  if (code && button) button.addEventListener('click', () => copy(button, code))
}
$('who').elements.user.value = user
$('publish').elements.topic.value = [...channels][0] ?? 'channel:demo'
$('target').addEventListener('change', showLines)
$('pause').addEventListener('click', () => {
  log.isPaused = !log.isPaused
  $('pause').textContent = log.isPaused ? 'Resume' : 'Pause'
})
$('join').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault()
  const topic = $('join').elements.topic.value.replace(/^(?!channel:)/, 'channel:')
  $('join').reset()
  channels.add(topic)
  channelsChanged()
  client.subscribe(topic).catch(({ code }) => {
    if (String(code).startsWith('PUSH_ERR') && channels.delete(topic)) channelsChanged()
  })
})
$('publish').addEventListener('submit', async (/** @type {Event} */ event) => {
  event.preventDefault()
  const { topic, type, payload } = $('publish').elements
  let text = ''
  let isBad = true
  try {
    const message = { topic: topic.value, type: type.value, payload: parse(payload) }
    /** @type {any} */
    const { delivered, nodes } = await client.request('publish', message)
    text = `Delivered to ${count(delivered, 'connection')} on ${count(nodes, 'node')}`
    isBad = false
  } catch (error) {
    text = String(Object(error).message)
  }
  $('outcome').textContent = text
  $('outcome').toggleAttribute('data-bad', isBad)
})

/** @param {number} n @param {string} what */
const count = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`

/** @param {HTMLTextAreaElement} field */
function parse(field) {
  field.removeAttribute('aria-invalid')
  try {
    return JSON.parse(field.value)
  } catch {
    field.setAttribute('aria-invalid', 'true')
    throw new Error('The payload is not JSON, such as {"text": "hello"}')
  }
}

/** @type {{ at: number, received: number }[]} */
let samples = [{ at: performance.now(), received: 0 }]
/** @param {number} now */
function showNumbers(now) {
  if (now - samples[samples.length - 1].at < 250) return
  samples = [...samples.slice(-8), { at: now, received: log.received }]
  const rate = (1_000 * (log.received - samples[0].received)) / (now - samples[0].at)
  const sorted = probes
    .filter(({ at }) => at > now - WINDOW)
    .map(({ ms }) => ms)
    .sort((a, b) => a - b)
  $('rate').textContent = rate < 10 ? String(Math.round(rate * 10) / 10) : Math.round(rate).toLocaleString('en')
  $('p50').textContent = duration(sorted[Math.ceil(sorted.length * 0.5) - 1])
  $('p99').textContent = duration(sorted[Math.ceil(sorted.length * 0.99) - 1])
  $('received').textContent = log.received.toLocaleString('en')
  $('gaps').textContent = String(gaps)
}

/** @param {number | undefined} ms */
function duration(ms) {
  if (ms === undefined) return '–'
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`
}

let drawn = 0
/** @param {number} now */
function frame(now) {
  requestAnimationFrame(frame)
  if (now - drawn < (calm.matches ? 1_000 : 25)) return
  drawn = now
  chart.draw(now)
  log.draw(now)
  showNumbers(now)
}

chart.present(false)
requestAnimationFrame(frame)
setInterval(() => client.send('probe', { sent: performance.now() }), PROBE_EVERY)

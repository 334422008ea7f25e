// @ts-check
/// <reference lib="dom" />
// @ts-expect-error: the plugin serves it
import { connect } from '/ws/client.js'

const SECONDS = 60
const PROBE_EVERY = 1_000
/** So long without an answer to a probe, and the page says so although the connection is open. */
const LATE = 4_000
const KEPT = 200
const TEXT_MAX = 2_000
const COLOURS = 8
const STATES = { connecting: 'Connecting', open: 'Connected', waiting: 'Disconnected', closed: 'Closed' }
const HINTS = {
  javascript: 'In your own application.',
  curl: '',
  php: 'With PHP alone.',
  phpredis: 'Needs the extension redis.',
  redisCli: '',
}

/** @param {string} id @returns {any} */
const $ = id => document.getElementById(id)
/** @param {string} tag @param {string} [text] @returns {any} */
const make = (tag, text = '') => Object.assign(document.createElement(tag), { textContent: text })

/** The topics seen so far, in the order that gives them their colours. @type {Map<string, number>} */
const colours = new Map()
/** @param {string} topic */
function dotOf(topic) {
  const key = topic.replace(/^connection:.*/, 'connection')
  if (!colours.has(key) && colours.size < 500) colours.set(key, colours.size % COLOURS)
  const dot = make('i')
  dot.style.setProperty('--dot', `var(--t${colours.get(key) ?? 0})`)
  return dot
}

/** The last messages, written to the page ten times a second at most. */
class Log {
  /** @type {{ at: Date, topic: string, type: string, text: string }[]} */
  entries = []
  received = 0
  shown = 0
  isPaused = false
  painted = 0

  /** @param {string} topic @param {string} type @param {unknown} payload */
  add(topic, type, payload) {
    const text = JSON.stringify(payload) ?? ''
    this.received++
    this.entries.push({
      at: new Date(),
      topic,
      type,
      text: text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text,
    })
    if (this.entries.length > 2 * KEPT) this.entries.splice(0, KEPT)
  }

  clear() {
    this.shown = this.received
    $('log').replaceChildren()
    this.toggle(false)
  }

  /** @param {boolean} hasEntries */
  toggle(hasEntries) {
    $('empty').hidden = hasEntries
    $('log').hidden = !hasEntries
  }

  /** @param {number} now */
  draw(now) {
    if (now - this.painted < 100) return
    this.painted = now
    const waiting = this.received - this.shown
    $('paused').hidden = !this.isPaused
    if (this.isPaused) {
      const rest = waiting > KEPT ? `, of which the last ${KEPT} will be shown` : ''
      $('paused').textContent = `Paused · ${count(waiting, 'new message')}${rest}`
    }
    if (waiting === 0 || this.isPaused) return
    this.shown = this.received
    this.toggle(true)
    const rows = this.entries.slice(-Math.min(waiting, KEPT)).map(rowOf).reverse()
    // In a stream of messages a flash of each would be a flicker.
    for (const row of rows) row.classList.toggle('new', rows.length < 4)
    $('log').prepend(...rows)
    while ($('log').childElementCount > KEPT) $('log').lastChild.remove()
  }
}

/** @param {Log['entries'][number]} entry */
function rowOf({ at, topic, type, text }) {
  const row = Object.assign(make('li'), { className: 'entry' })
  const [name, message] = [Object.assign(make('span'), { title: topic }), make('p')]
  name.append(dotOf(topic), make('b', topic))
  message.append(make('b', type), make('code', text))
  row.append(make('time', `${at.toLocaleTimeString('en-GB')}.${String(at.getMilliseconds()).padStart(3, '0')}`))
  row.append(name, message)
  return row
}

/** What the last minute was like, a second each. */
class Minute {
  /** `trips`: how long the probe took that came back in this second. @type {{ count: number, isAway: boolean, trips: number[] }[]} */
  seconds = Array.from({ length: SECONDS }, () => ({ count: 0, isAway: false, trips: [] }))
  second = Math.floor(performance.now() / 1_000)

  /** @param {number} now @param {boolean} isAway */
  current(now, isAway) {
    const second = Math.floor(now / 1_000)
    for (let n = Math.min(SECONDS, second - this.second); n > 0; n--) {
      this.seconds.push({ count: 0, isAway, trips: [] })
      this.seconds.shift()
    }
    this.second = second
    const last = this.seconds[SECONDS - 1]
    last.isAway ||= isAway
    return last
  }

  /** Of the last full seconds. */
  rate() {
    const seconds = this.seconds.slice(-4, -1)
    return seconds.reduce((sum, { count }) => sum + count, 0) / seconds.length
  }

  trip() {
    const trips = this.seconds.flatMap(({ trips }) => trips).sort((a, b) => a - b)
    return trips[Math.ceil(trips.length / 2) - 1]
  }

  draw() {
    const most = Math.sqrt(Math.max(8, ...this.seconds.map(({ count }) => count)))
    const bar = (/** @type {number} */ n, /** @type {number} */ height) => `M${2 * n} 26v${-height}h1.6v${height}z`
    const bars = this.seconds.map(({ count }, n) =>
      count > 0 ? bar(n, Math.max(1, (25 * Math.sqrt(count)) / most)) : '',
    )
    const gone = this.seconds.map(({ isAway }, n) => (isAway ? `M${2 * n} 26v-26h2v26z` : ''))
    $('bars').setAttribute('d', bars.join(''))
    $('gone').setAttribute('d', gone.join(''))
  }
}

const query = new URLSearchParams(location.search)
const user = query.get('user') ?? ''
const channels = new Set((query.get('topics') ?? 'channel:demo').split(',').filter(Boolean))
const log = new Log()
const minute = new Minute()
let gaps = 0
/** When the last probe came back, and since when and until when there is no connection. */
let heardAt = 0
let lostAt = ''
let retryAt = 0

/** @type {import('../../src/client/index.ts').Client<any>} */
const client = connect(user ? `/ws?user=${encodeURIComponent(user)}` : '/ws', { topics: [...channels] })
client.on('*', (payload, { type, topic = '' }) => {
  const now = performance.now()
  const { sent } = type === 'probe' ? Object(payload) : {}
  const second = minute.current(now, false)
  if (Number.isFinite(sent) && topic === `connection:${client.welcome?.connection}`) {
    second.trips.push(now - sent)
    heardAt = now
    if (client.state === 'open') say('')
  } else {
    second.count++
    log.add(topic, type, payload)
  }
})
client.listen('state', ({ state, code, reason, delay = 0 }) => {
  const isOpen = state === 'open'
  const now = performance.now()
  if (isOpen) heardAt = now
  else if (lostAt === '') lostAt = new Date().toLocaleTimeString('en-GB')
  retryAt = now + delay
  $('first').hidden = !isOpen
  $('waiting').hidden = isOpen
  if (!isOpen) $('node').textContent = $('broker').textContent = '–'
  if (isOpen) say('')
  showState(now)
  if (state !== 'closed') return
  say(`The server closed this connection for good: ${code} ${reason}. Connect as another user, or load the page again.`)
  $('patience').hidden = true
  // Whoever was refused under one name may try another.
  $('identity').disabled = false
})
client.listen('welcome', welcome => {
  lostAt = ''
  $('node').textContent = welcome.node
  showTopics(Object.keys(welcome.topics))
})
client.listen('gap', () => {
  gaps++
})
client.listen('error', ({ code, message }) => say(`${code}: ${message}`))
client.listen('unreachable', ({ message }) => {
  // What to check when setting up; once it has worked, the line above the messages says enough.
  if (!client.welcome) say(message)
})

/** @param {string} text */
function say(text) {
  if ($('notice').textContent !== text) $('notice').replaceChildren(...(text ? [make('p', text)] : []))
}

/** Only what changed is written: a screen reader reads the state aloud. @param {number} now */
function showState(now) {
  const { state, welcome } = client
  const isLate = state === 'open' && now - heardAt > LATE
  const text = isLate ? 'No answer' : STATES[state]
  if ($('state').textContent !== text) {
    $('state').textContent = text
    document.title = `${state === 'open' && !isLate ? '' : `${text} · `}Push bridge demo`
  }
  setLive(state === 'open' && !isLate)
  $('state').dataset.state = state
  $('state').toggleAttribute('data-late', isLate)
  const seconds = Math.ceil((retryAt - now) / 1_000)
  const next = state === 'waiting' && seconds > 0 ? `The next attempt is in ${seconds} s.` : 'Trying now.'
  let why = ''
  if (isLate)
    why = `Connected, but for ${Math.round((now - heardAt) / 1_000)} s nothing has come back through the broker.`
  else if (state !== 'open' && state !== 'closed' && welcome) why = `Disconnected since ${lostAt}. ${next}`
  $('away').hidden = why === ''
  $('countdown').textContent = why
}

/** Turns on or off what depends on the server. @param {boolean} isLive */
function setLive(isLive) {
  if (document.body.dataset.live === String(isLive)) return
  document.body.dataset.live = String(isLive)
  for (const fieldset of document.querySelectorAll('fieldset.live')) Object.assign(fieldset, { disabled: !isLive })
  $('outcome').textContent = ''
}

/** @param {string[]} own */
function showTopics(own) {
  const named = (/** @type {string} */ kind) => own.filter(topic => topic.startsWith(kind))
  const topics = [...new Set([...named('user:'), ...channels, ...named('channel:'), 'all', ...named('connection:')])]
  $('topics').replaceChildren(...topics.map(chipOf))
  const chosen = topics.includes($('target').value) ? $('target').value : defaultTopic(topics)
  $('target').replaceChildren(...topics.map(topic => new Option(topic)))
  $('target').value = chosen
  askLines()
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

/** What the server last said of the topic that is chosen. @type {any} */
let answer
/** Asks for the lines: the server knows its address, its key and how to quote a topic for a shell. */
async function askLines() {
  const topic = $('target').value
  const given = await client.request('broker', { topic }).catch(() => undefined)
  if (!given || topic !== $('target').value || client.state !== 'open') return
  answer = given
  $('broker').textContent = answer.broker === 'redis' ? 'Redis' : answer.broker
  showLine()
}

function showLine() {
  if (!answer) return
  const language = /** @type {keyof typeof HINTS} */ ($('languages').querySelector(':checked').value)
  const line = answer.lines[language]
  const isPhpredis = language === 'php' && line.includes('new Redis')
  writeLine($('line'), line ?? '# needs a Redis: REDIS_URL=redis://127.0.0.1:6379 npm start')
  $('copy').disabled = !line
  const isSecret = !answer.isLocal && language !== 'javascript'
  $('hint').textContent = isSecret
    ? 'Set $PUSH_API_KEY and $REDIS_URL as the server has them: this page is not told.'
    : HINTS[isPhpredis ? 'phpredis' : language]
  writeLine($('first').querySelector('code'), answer.lines.curl)
}

/** The line wraps, but not within an option such as -H. @param {HTMLElement} code @param {string} line */
function writeLine(code, line) {
  const parts = line.split(/(?<= )(-\w+)/)
  code.replaceChildren(...parts.map((part, n) => (n % 2 === 1 ? make('span', part) : part)))
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

$('who').elements.user.value = user
$('publish').elements.topic.value = [...channels][0] ?? 'channel:demo'
$('target').addEventListener('change', askLines)
$('languages').addEventListener('change', showLine)
$('copy').addEventListener('click', () => copy($('copy'), $('line')))
$('first')
  .querySelector('button')
  .addEventListener('click', (/** @type {any} */ { target }) => copy(target, $('first').querySelector('code')))
$('clear').addEventListener('click', () => log.clear())
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
const count = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`

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

// The timers of a hidden page are slowed down: what it did not hear meanwhile says nothing about the server.
document.addEventListener('visibilitychange', () => {
  heardAt = performance.now()
})

let numbersAt = 0
/** @param {number} now */
function showNumbers(now) {
  if (now - numbersAt < 250) return
  numbersAt = now
  showState(now)
  const isLive = document.body.dataset.live === 'true'
  minute.current(now, !isLive && client.welcome !== undefined)
  minute.draw()
  const rate = minute.rate()
  $('received').textContent = log.received.toLocaleString('en')
  const exact = rate < 10 ? String(Math.round(rate * 10) / 10) : Math.round(rate).toLocaleString('en')
  $('rate').textContent = isLive ? exact : '–'
  $('trip').textContent = isLive ? duration(minute.trip()) : '–'
  $('gaps').textContent = String(gaps)
}

/** @param {number | undefined} ms */
function duration(ms) {
  if (ms === undefined) return '–'
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`
}

/** @param {number} now */
function frame(now) {
  requestAnimationFrame(frame)
  log.draw(now)
  showNumbers(now)
}

requestAnimationFrame(frame)
setInterval(() => client.send('probe', { sent: performance.now() }), PROBE_EVERY)

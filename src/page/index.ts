import { Api, NoAnswer, Refused, sentenceOf } from './api.ts'
import { byId, type Child, el, setText } from './dom.ts'
import { showConnections, showExplanation } from './explanation.ts'
import { clockText, durationText } from './format.ts'
import { Overview } from './overview.ts'
import { Poll } from './poll.ts'
import { publishBody, showOutcome } from './publication.ts'
import { readNodes } from './reports.ts'

/** How often the charts are drawn anew, in milliseconds: what they need is most of an answer. */
const CHARTS_EVERY = 10_000

/** What is shown is called old after this time without an answer. */
const OLD = 6000

const STORED = 'push.key'

/** Where the browser blocks site data, there is no sessionStorage: even to name it throws. */
function stored(): string | null {
  try {
    return sessionStorage.getItem(STORED)
  } catch {
    return null
  }
}

function store(key: string | null): void {
  try {
    if (key === null) sessionStorage.removeItem(STORED)
    else sessionStorage.setItem(STORED, key)
  } catch {
    // Then it is asked for again.
  }
}

const input = (id: string) => byId<HTMLInputElement>(id)

const { guard, publishing = '' } = document.documentElement.dataset

/** No key of ours is needed: the application itself decides, for example by a cookie. */
const isOpen = guard === 'application'

class Page {
  readonly #api = new Api(location.href, publishing, !isOpen)
  readonly #overview = new Overview(topic => this.#explain(topic))
  readonly #poll = new Poll({ ask: () => this.#ask(), isHidden: () => document.hidden })
  /** Answers to what was asked with another key are dropped. */
  #turn = 0
  readonly #calls = new Map<string, number>()
  #answeredAt: number | undefined
  #chartsAt = 0
  #isFailing = false

  begin(): void {
    this.#listen()
    // Stored text survives a reload of this tab and nothing else.
    const key = stored()
    if (key !== null || isOpen) this.#open(key ?? undefined)
    else this.#leave()
    setInterval(() => this.#showAge(), 1000)
  }

  #listen(): void {
    onSubmit('entry', () => this.#enter())
    onSubmit('explain', () => this.#explain(input('topic').value))
    onSubmit('who', () => this.#look(`user:${input('user').value.trim()}`, showConnections))
    onSubmit('publish', () => this.#publish())
    byId('leave').addEventListener('click', () => this.#leave())
    byId('pause').addEventListener('click', () => this.#pause())
    document.addEventListener('visibilitychange', () => this.#poll.wake())
  }

  async #enter(): Promise<void> {
    const key = input('key').value.trim()
    if (input('keep').checked) store(key)
    this.#open(key)
  }

  #open(key: string | undefined): void {
    this.#turn++
    this.#api.useKey(key)
    input('key').value = ''
    setText(byId('entry-problem'), '')
    this.#answeredAt = undefined
    this.#chartsAt = 0
    this.#isFailing = false
    this.#poll.start()
  }

  /** Back to the beginning. Nothing of what the key saw is left on the page. */
  #leave(problem = ''): void {
    this.#turn++
    this.#poll.stop()
    this.#api.useKey(undefined)
    store(null)
    this.#overview.forget()
    for (const id of ['answer', 'outcome']) byId(id).replaceChildren()
    for (const id of ['explain', 'who', 'publish']) byId<HTMLFormElement>(id).reset()
    for (const id of ['board', 'overview', 'notice', 'actions', 'live']) byId(id).hidden = true
    byId('entry').hidden = false
    setText(byId('entry-problem'), problem)
    showPaused(false)
    input('key').focus()
  }

  #pause(): void {
    if (this.#poll.isOn) this.#poll.stop()
    else this.#poll.start()
    showPaused(!this.#poll.isOn)
    this.#showAge()
  }

  /** One question to all nodes, and what came of it. */
  async #ask(): Promise<number> {
    const turn = this.#turn
    const hasSamples = Date.now() - this.#chartsAt >= CHARTS_EVERY
    try {
      const answer = await this.#api.get('nodes', { topics: '20', ...(hasSamples && { samples: 'true' }) })
      if (turn !== this.#turn) return 0
      const at = Date.now()
      this.#overview.show(readNodes(answer), at, hasSamples)
      if (hasSamples) this.#chartsAt = at
      this.#answeredAt = at
      this.#isFailing = false
      this.#reveal(true, '')
    } catch (error) {
      if (turn !== this.#turn) return 0
      return this.#failed(error)
    }
    this.#showAge()
    return 0
  }

  #failed(error: unknown): number {
    const status = error instanceof Refused ? error.status : 0
    if (status === 401 || (status === 403 && isOpen)) {
      this.#leave(sentenceOf(error))
      return 0
    }
    if (status === 403) {
      // The key is good for something else: it may still publish or explain.
      this.#poll.stop()
      this.#reveal(false, `${sentenceOf(error)} What it may do works below.`)
      return 0
    }
    this.#isFailing = true
    this.#reveal(this.#answeredAt !== undefined, sentenceOf(error))
    this.#showAge()
    return error instanceof Refused ? error.wait : 0
  }

  #reveal(hasOverview: boolean, notice: string): void {
    byId('entry').hidden = true
    for (const id of ['board', 'actions']) byId(id).hidden = false
    byId('overview').hidden = !hasOverview
    for (const id of ['live', 'pause']) byId(id).hidden = !hasOverview && !this.#isFailing
    const place = byId('notice')
    place.hidden = notice === ''
    setText(place, notice)
  }

  #showAge(): void {
    const at = this.#answeredAt
    const age = at === undefined ? 0 : Date.now() - at
    const isPaused = !this.#poll.isOn
    const isOld = this.#isFailing || (!isPaused && age > OLD)
    const state = isPaused ? 'Paused' : isOld ? 'No answer' : 'Live'
    document.documentElement.dataset.state = isPaused ? 'paused' : isOld ? 'old' : 'live'
    setText(byId('state'), state)
    const since = at === undefined ? '' : isPaused || isOld ? `as of ${clockText(at)}, ${durationText(age)} ago` : ''
    setText(byId('age'), since || (at === undefined ? '' : clockText(at)))
  }

  #explain(topic: string): Promise<void> {
    input('topic').value = topic
    return this.#look(topic.trim(), showExplanation)
  }

  /** The answer may be far from what was pressed, and long: focus goes there. */
  async #look(topic: string, show: (answer: unknown) => Child[]): Promise<void> {
    await this.#answerIn('answer', () => this.#api.get('explain', { topic }), show)
    byId('answer').focus()
  }

  async #publish(): Promise<void> {
    const [to, type, payload] = ['to', 'type', 'payload'].map(id => input(id).value) as [string, string, string]
    const form = { to, type, payload, receipt: input('receipt').checked, trace: input('trace').checked }
    await this.#answerIn('outcome', async () => this.#api.publish(publishBody(form)), showOutcome)
  }

  /** Shows in `place` what a call gives, or why it gives nothing. */
  async #answerIn(place: string, call: () => Promise<unknown>, show: (answer: unknown) => Child[]): Promise<void> {
    const turn = this.#turn
    const number = (this.#calls.get(place) ?? 0) + 1
    this.#calls.set(place, number)
    // Whatever was asked last is shown, and not what is answered last.
    const isWanted = () => turn === this.#turn && number === this.#calls.get(place)
    const element = byId(place)
    element.setAttribute('aria-busy', 'true')
    try {
      const answer = await call()
      if (isWanted()) element.replaceChildren(...show(answer))
    } catch (error) {
      if (!isWanted()) return
      if (error instanceof Refused && error.status === 401) return this.#leave(sentenceOf(error))
      const more = error instanceof NoAnswer ? ' Nobody knows whether it was done.' : ''
      const sentence = sentenceOf(error) + (place === 'outcome' ? more : '')
      element.replaceChildren(el('p', { class: 'problem' }, sentence))
    } finally {
      element.removeAttribute('aria-busy')
    }
  }
}

function showPaused(isPaused: boolean): void {
  const button = byId('pause')
  button.setAttribute('aria-pressed', `${isPaused}`)
}

/** One at a time: whoever presses the button twice publishes once. */
function onSubmit(id: string, run: () => Promise<void>): void {
  const form = byId<HTMLFormElement>(id)
  const button = form.querySelector('button')!
  form.addEventListener('submit', async event => {
    event.preventDefault()
    if (form.dataset.busy !== undefined) return
    form.dataset.busy = ''
    button.setAttribute('aria-disabled', 'true')
    try {
      await run()
    } finally {
      button.removeAttribute('aria-disabled')
      delete form.dataset.busy
    }
  })
}

new Page().begin()

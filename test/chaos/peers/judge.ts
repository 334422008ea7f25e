import { join } from 'node:path'
import { readJournal } from '../journal.ts'

/** How a run went for one peer: in pairs of a client and an acknowledged publication, but for the first. */
export interface Score {
  acknowledged: number
  /** Those a client should have. */
  expected: number
  /** Missing, and nothing said so for the time in which it was published. */
  silent: number
  /** Of these: nor was there any later reconnect or gap at which a client might have asked for everything anew. */
  neverTold: number
  /** Missing, and the client was told that it missed something then. */
  told: number
  duplicates: number
  /** Came after a later publication of the same publisher on the same topic. */
  disordered: number
  /** Clients that were not subscribed at the end: nothing is expected of them. */
  absent: number
}

interface Published {
  k: string
  lane: string
  topic: string
  tried: number
  acked: number
}

type Entry =
  | { e: 'sub'; topic: string }
  | { e: 'msg'; topic: string; k: string }
  | { e: 'gap'; topics: string[] }
  | { e: 'told'; from: number }
  | { e: 'end'; isSubscribed: boolean }

type Note = Entry & { t: number; c: string }

/** What was still on its way when a client noticed that it was cut off. */
const ON_ITS_WAY = 250

/** From when until when a client was told that it missed something, on which topics. */
interface Window {
  from: number
  until: number
  topics?: readonly string[]
}

/** All that one client was told. */
class View {
  readonly since = new Map<string, number>()
  readonly windows: Window[] = []
  readonly keys = new Set<string>()
  readonly #heard = new Map<string, number>()
  readonly #latest = new Map<string, number>()
  isPresent = false
  duplicates = 0
  disordered = 0

  take(note: Note): void {
    const { t } = note
    if (note.e === 'sub' && !this.since.has(note.topic)) this.since.set(note.topic, t)
    else if (note.e === 'msg') this.#message(note.topic, note.k, t)
    else if (note.e === 'told') this.windows.push({ from: note.from, until: t })
    else if (note.e === 'end') this.isPresent = note.isSubscribed
    else if (note.e === 'gap') {
      for (const topic of note.topics) {
        this.windows.push({ from: this.#heard.get(topic) ?? 0, until: t, topics: [topic] })
      }
    }
  }

  #message(topic: string, k: string, t: number): void {
    this.#heard.set(topic, t)
    if (k.startsWith('canary')) return
    if (this.keys.has(k)) {
      this.duplicates++
      return
    }
    this.keys.add(k)
    const [lane, n] = k.split('-') as [string, string]
    const latest = this.#latest.get(`${lane} ${topic}`) ?? -1
    if (Number(n) < latest) this.disordered++
    else this.#latest.set(`${lane} ${topic}`, Number(n))
  }

  isTold({ topic, tried, acked }: Published): boolean {
    return this.#of(topic).some(({ from, until }) => tried <= until && acked >= from - ON_ITS_WAY)
  }

  isEverTold({ topic, tried }: Published): boolean {
    return this.#of(topic).some(({ until }) => tried <= until)
  }

  #of(topic: string): Window[] {
    return this.windows.filter(({ topics }) => topics?.includes(topic) ?? true)
  }
}

/** Judges a run of any peer by its logs alone. */
export function judgePeer(folder: string): Score {
  const published = readPublished(folder)
  const views = new Map<string, View>()
  for (const note of readJournal<Note>(join(folder, 'clients.jsonl'))) {
    const view = views.get(note.c) ?? new View()
    views.set(note.c, view)
    view.take(note)
  }
  const score = { ...NOTHING, acknowledged: published.length }
  for (const view of views.values()) judgeView(view, published, score)
  return score
}

function readPublished(folder: string): Published[] {
  const tries = new Map<string, number>()
  const published: Published[] = []
  type PublisherNote = { e: string; k: string; lane: string; topic: string }
  for (const { e, k, lane, topic, t } of readJournal<PublisherNote>(join(folder, 'publishers.jsonl'))) {
    if (e === 'try') tries.set(k, t)
    else if (e === 'ack' && lane !== 'canary') published.push({ k, lane, topic, tried: tries.get(k)!, acked: t })
  }
  return published
}

function judgeView(view: View, published: readonly Published[], score: Score): void {
  score.duplicates += view.duplicates
  score.disordered += view.disordered
  if (!view.isPresent) {
    score.absent++
    return
  }
  for (const publication of published) {
    const since = view.since.get(publication.topic)
    if (since === undefined || since >= publication.tried) continue
    score.expected++
    if (view.keys.has(publication.k)) continue
    if (view.isTold(publication)) score.told++
    else {
      score.silent++
      if (!view.isEverTold(publication)) score.neverTold++
    }
  }
}

export const NOTHING: Score = {
  acknowledged: 0,
  expected: 0,
  silent: 0,
  neverTold: 0,
  told: 0,
  duplicates: 0,
  disordered: 0,
  absent: 0,
}

export function sum(scores: readonly Score[]): Score {
  const total = { ...NOTHING }
  for (const score of scores) for (const key of Object.keys(total) as (keyof Score)[]) total[key] += score[key]
  return total
}

import type { PresenceMessage } from '../../src/protocol/presence.ts'
import type { Journal } from './journal.ts'
import type { Random } from './random.ts'
import { GRACE } from './topics.ts'

export interface VisitorOptions {
  name: string
  /** The next address to try. */
  url(): string
  user: string
  lobby: string
  journal: Journal
  random: Random
  changed(): void
}

/** Milliseconds between two things that a visitor does. */
const PAUSE = [300, 1800] as const
/** How long it stays away, in parts of the grace: long enough for everybody to notice. */
const ABSENCE = [1.5, 3] as const
/** After a connection was lost. */
export const RETRY = [50, 250] as const

/** A user who comes to a lobby and leaves it, and looks at who is there. */
export abstract class Visitor {
  readonly options: VisitorOptions
  /** Topics it has now, as it knows. */
  readonly held = new Set<string>()
  /** Whether it means to be there. */
  isComing = true
  #planning: NodeJS.Timeout | undefined
  #returning: NodeJS.Timeout | undefined

  constructor(options: VisitorOptions) {
    this.options = options
  }

  begin(): void {
    this.#plan()
  }

  get topics(): string[] {
    return ['all', this.options.lobby]
  }

  get isThere(): boolean {
    return this.topics.every(topic => this.held.has(topic))
  }

  /** Connections of each user on `topic`, as it was told; undefined while it does not know. */
  abstract seen(topic: string): ReadonlyMap<string, number> | undefined

  abstract get isClosed(): boolean

  /** The connection is gone without a word, and another one follows. */
  protected abstract drop(): void

  protected abstract close(): void

  protected abstract open(): void

  protected abstract leaveLobby(): void

  protected abstract enterLobby(): void

  note(entry: object): void {
    this.options.journal.note({ c: this.options.name, user: this.options.user, ...entry })
  }

  protected attempted(): void {
    this.note({ e: 'attempt' })
  }

  protected entered(topic: string): void {
    if (!this.isComing || this.held.has(topic)) return
    this.held.add(topic)
    this.note({ e: 'entered', topic })
    this.options.changed()
  }

  /** `code`: of a connection that was closed. */
  protected left(topics: readonly string[], code?: number): void {
    for (const topic of topics) if (this.held.delete(topic)) this.note({ e: 'left', topic, code })
    this.options.changed()
  }

  protected told(topic: string, message: PresenceMessage): void {
    this.note({ e: 'told', topic, message })
  }

  #plan(): void {
    this.#planning = setTimeout(
      () => {
        this.#act()
        this.#plan()
      },
      this.options.random.between(...PAUSE),
    )
  }

  #act(): void {
    const { random } = this.options
    if (!this.isThere) return
    const act = random.weighted({ drop: 4, away: 4, lobby: 2 })
    if (act === 'drop') this.drop()
    else if (act === 'away') this.#goAway(random.between(...ABSENCE) * GRACE)
    else this.#leaveLobby(random.between(...ABSENCE) * GRACE)
  }

  #goAway(milliseconds: number): void {
    this.isComing = false
    this.left(this.topics)
    this.close()
    this.#returning = setTimeout(() => this.#comeBack(), milliseconds)
  }

  #comeBack(): void {
    this.isComing = true
    this.open()
  }

  #leaveLobby(milliseconds: number): void {
    this.left([this.options.lobby])
    this.leaveLobby()
    setTimeout(() => {
      if (this.held.has('all') && !this.held.has(this.options.lobby)) this.enterLobby()
    }, milliseconds)
  }

  /** From now on it stays there, or away. */
  settle(stays: boolean): void {
    this.#stop()
    if (!stays) this.end()
    else if (!this.isComing) this.#comeBack()
  }

  end(): void {
    this.#stop()
    this.isComing = false
    this.left(this.topics)
    this.close()
  }

  #stop(): void {
    clearTimeout(this.#planning)
    clearTimeout(this.#returning)
  }
}

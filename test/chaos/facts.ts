import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { PresenceMessage } from '../../src/protocol/presence.ts'
import type { IngressKind } from './ingress.ts'
import { readJournal } from './journal.ts'
import type { NotedKind } from './schedule.ts'
import { slotOf } from './slots.ts'

/** What the logs of a run say, in the words of the judge. */
export interface Facts {
  /** Every attempt to publish, by key. */
  tries: Map<string, Try>
  acks: Ack[]
  /** What the queues of the ingress took. */
  queued: Queued[]
  /** What each client was told, in order. */
  clients: Map<string, Told[]>
  /** What visitors did and were told, all together, in order. */
  visits: VisitNote[]
  faults: FaultNote[]
  /** On which shards of a Cluster a slot was when, of those that may have moved. */
  homes: Map<number, Home[]>
  /** The histories at the end. */
  histories: Map<string, { id: string; k: string }[]>
  /** What nodes and publishers said that they never should. */
  complaints: string[]
  controller: Note[]
}

export interface Try {
  t: number
  k: string
  topic: string
  lane: string
  h: string
}

export interface Queued {
  t: number
  k: string
  topic: string
  queue: IngressKind
  /** Whose order holds. */
  sequence?: string
}

export interface Ack {
  t: number
  k: string
  topic: string
  lane: string
  id: string
  seq: number
  duplicate?: boolean
}

export interface FaultNote {
  /** Of the strike: several of a kind may last at the same time. */
  number: number
  t: number
  kind: NotedKind
  end: number
  topic?: string
  /** Of a Cluster: the others have nothing to do with it. */
  shard?: number
  /** Whether a replica took over; absent where that is certain, or impossible. */
  promoted?: boolean
  /** When what it destroyed begins: a rollback takes what came after the snapshot. */
  since?: number
}

export interface Home {
  shard: number
  from: number
  until: number
}

/** What a visitor noted: where it was, and what it was told of who is there. */
export type VisitNote = { t: number; c: string; user: string } & (
  | { e: 'attempt' }
  /** Asked anew: what was told of the topic before does not count any more. */
  | { e: 'entered' | 'asked' | 'opened'; topic: string }
  | { e: 'left'; topic: string; code?: number }
  | { e: 'told'; topic: string; message: PresenceMessage }
  | { e: 'changed'; topic: string; joined: string[]; left: string[] }
  | { e: 'error' | 'library-error' }
)

type Note = { t: number; e: string; [key: string]: unknown }

export type Told =
  | { e: 'connect' | 'welcome' | 'error' | 'ask' | 'churn'; t: number }
  | { e: 'close' | 'stays-closed'; t: number; code: number; reason: string }
  | { e: 'sub'; t: number; topic: string; since?: string; id?: string; seq?: number; recovered?: boolean }
  | { e: 'msg'; t: number; topic: string; id?: string; seq?: number; k: string; h: string }
  | { e: 'gap'; t: number; topics: string[]; reason: string; positions?: Record<string, { id: string; seq: number }> }

/** Answers that no fault explains: the request itself was wrong. */
const PERMANENT =
  /^PUSH_ERR_(TYPE|FIELD|JSON|TOPIC|TOO_LARGE|UNKNOWN_KEY|RESERVED_TYPE|INTERNAL|OPTIONS|UNAUTHENTICATED)$/
const ERROR_LEVEL = 50

export function readFacts(folder: string): Facts {
  const controller = readJournal<Note>(join(folder, 'controller.jsonl'))
  const facts: Facts = {
    tries: new Map(),
    acks: [],
    queued: [],
    clients: new Map(),
    visits: readJournal<VisitNote>(join(folder, 'visitors.jsonl')),
    faults: faultsOf(controller),
    homes: homesOf(controller),
    histories: new Map(),
    complaints: [],
    controller,
  }
  for (const name of ['publishers.jsonl', 'php.jsonl']) readPublishers(join(folder, name), facts)
  for (const told of readJournal<Told & { c: string }>(join(folder, 'clients.jsonl'))) {
    const list = facts.clients.get(told.c)
    if (list) list.push(told)
    else facts.clients.set(told.c, [told])
  }
  for (const note of controller) {
    if (note.e === 'history') facts.histories.set(note.topic as string, note.entries as { id: string; k: string }[])
  }
  for (const name of readdirSync(folder).filter(name => /^node-\d+\.jsonl$/.test(name))) {
    for (const note of readJournal<Note>(join(folder, name))) {
      if (note.e === 'unhandled' || (note.level as number) >= ERROR_LEVEL) {
        facts.complaints.push(`${name}: ${JSON.stringify(note)}`)
      }
    }
  }
  return facts
}

function readPublishers(path: string, facts: Facts): void {
  for (const note of readJournal<Note>(path)) {
    if (note.e === 'try') facts.tries.set(note.k as string, note as unknown as Try)
    else if (note.e === 'ack') facts.acks.push(note as unknown as Ack)
    else if (note.e === 'queued') facts.queued.push(note as unknown as Queued)
    else if (note.e === 'unhandled' || PERMANENT.test(String(note.code))) {
      facts.complaints.push(`publisher: ${JSON.stringify(note)}`)
    }
  }
}

function faultsOf(controller: readonly Note[]): FaultNote[] {
  const faults: FaultNote[] = []
  for (const note of controller) {
    if (note.e === 'fault') {
      const { t, since } = note
      faults.push({ ...(note as unknown as FaultNote), t: (since as number) ?? t, end: Number.POSITIVE_INFINITY })
    } else if (note.e === 'fault-end') {
      const begun = faults.find(({ number }) => number === note.number)
      if (begun) Object.assign(begun, note, { t: begun.t, end: note.t })
    }
  }
  return faults
}

/** While it moves a slot is on two shards. */
function homesOf(controller: readonly Note[]): Map<number, Home[]> {
  const homes = new Map<number, Home[]>()
  for (const { e, t, key, shard } of controller) {
    if (e !== 'gets' && e !== 'leaves') continue
    const slot = slotOf(key as string)
    const known = homes.get(slot) ?? []
    if (e === 'gets') homes.set(slot, [...known, { shard: shard as number, from: t, until: Number.POSITIVE_INFINITY }])
    else known.findLast(home => home.shard === shard)!.until = t
  }
  return homes
}

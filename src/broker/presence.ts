import type { Member, PresenceCount } from '../protocol/presence.ts'
import type { Topic } from '../protocol/topic.ts'

/** What one node knows of a user on a topic: its own connections. */
export interface OwnMember {
  /** 0 if the user has left. */
  connections: number
  since: number
  /** JSON text; empty if there is none. */
  info: string
  /** The connections, where they are listed. */
  ids: readonly (readonly [id: string, since: number])[]
}

/** Where the list of a topic is: versions count up in each epoch. */
export interface PresencePlace {
  /** Empty if nothing was ever heard. */
  epoch: string
  version: number
}

/** The same, and by what a change is told from another one with its version: a master that was replaced may have made one. */
export interface MarkedPlace extends PresencePlace {
  mark: string
}

/** A change of what an owner has on a topic. */
export interface PresenceChange {
  topic: Topic
  /** Who writes: a registration of a node. */
  owner: string
  /** The number of its last change on the topic, as the broker gave it; `0` at first. */
  base: string
  /** The number of this one: even, and never used before by this owner. */
  next: string
  /** Where the list of the topic was, as the owner last heard: a broker that is behind that has lost something. */
  heard: PresencePlace
  /** Milliseconds for which this counts without being renewed. */
  lease: number
  anonymous: number
  users: ReadonlyMap<string, OwnMember>
}

export interface PresenceReply extends MarkedPlace {
  /** False if the broker does not have what the owner wrote last: nothing was changed. */
  isWritten: boolean
  /** The `base` of the next change. */
  base: string
  /** Owners whose lease has ended. */
  lapsed: readonly string[]
}

/** A part of the list of a topic. */
export interface MembersPage extends PresenceCount, MarkedPlace {
  members: readonly Member[]
  /** Where the next page begins; `0` at the end. A list that changes meanwhile may have a member twice. */
  cursor: string
}

/** One user, and the connections on each node. */
export interface MemberDetail {
  member: Member | undefined
  owners: readonly { owner: string; connections: number; ids: OwnMember['ids'] }[]
}

/**
 * Who is on which topic. Nodes write their own share; what they have together is told as changes on the topic, in an
 * order. None of the calls settles later than the broker's timeout; they reject with a PushError.
 */
export interface PresenceStore {
  /** What is written of topics of one shard is answered together; those of another one must not wait for it. */
  shardOf(topic: Topic): unknown
  /** One result for each change, in the same order. */
  write(changes: readonly PresenceChange[]): Promise<(PresenceReply | Error)[]>
  /** Takes away what is left of an owner whose lease has ended. True if there is more. */
  purge(topic: Topic, owner: string): Promise<boolean>
  /** What the broker has of an owner: the users and how many connections each has. */
  owned(topic: Topic, owner: string): Promise<ReadonlyMap<string, number>>
  members(topic: Topic, cursor: string, count: number): Promise<MembersPage>
  member(topic: Topic, user: string): Promise<MemberDetail>
}

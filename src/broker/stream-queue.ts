/** A message of a stream, and the node's until it is acknowledged or another node claims it. */
export interface QueuedMessage {
  /** The id of its entry. */
  readonly id: string
  /** The field `body`, as it was written; undefined if the entry has none. */
  readonly body: Uint8Array | undefined
  /** How often it was given to a node or tried, this time included. */
  readonly tries: number
}

export interface StreamQueueOptions {
  /** `ingress`, or `ingress:` and a name; the prefix comes before it. */
  readonly stream: string
  /** The consumer group that all nodes share. */
  readonly group: string
  /** Milliseconds without a sign of life after which a message is another node's to take. */
  readonly claimAfter: number
  /** How many dead letters are kept, about. */
  readonly deadLetters: number
  /** Whether what every group has handled is removed. */
  readonly trim: boolean
  /** They were removed from the stream before they were acknowledged, and no node goes on with them. */
  lost(ids: readonly string[]): void
  /** The consumer group was not there, for the first time or because somebody removed it; it has been made. */
  created(isFirst: boolean): void
}

/** Why a message will not be published. */
export interface DeathCause {
  readonly code: string
  readonly message: string
  readonly tries: number
}

/** A stream that all nodes read together, each message on one of them. All calls reject with a PushError. */
export interface StreamQueue {
  /** Up to `count` messages that no node had yet, in their order. Waits up to a second for the first one. */
  read(count: number): Promise<QueuedMessage[]>
  /**
   * Up to `count` messages of nodes that are gone, or with `all` those of every other node. Fewer than that: there are no
   * more now.
   */
  claim(count: number, whose?: 'all'): Promise<QueuedMessage[]>
  /** Whether this node is the one that leads, now for the first time or still. Asked for again within `claimAfter`. */
  lead(): Promise<'no' | 'new' | 'still'>
  /** Says that this node is at work on them. Resolves with those that are still its own. */
  keep(ids: readonly string[]): Promise<ReadonlySet<string>>
  /** Notes that a message was tried so often, for whoever gets it next. */
  noteTries(id: string, tries: number): Promise<void>
  /** It is not their fault that they are not done with: that this node has them is not counted as a try. */
  excuse(ids: readonly string[]): Promise<void>
  /** They are done with. */
  acknowledge(ids: readonly string[]): Promise<void>
  /** Puts a message among the dead letters. It is acknowledged by this. */
  bury(message: QueuedMessage, cause: DeathCause): Promise<void>
  /** Removes what is done with and whom nobody will hear of again. Resolves with how many messages are not done with. */
  tend(): Promise<number | undefined>
  /** Ends a `read` that waits, and refuses further ones. */
  stopReading(): void
  /** Lets other nodes have at once what this one did not finish, as if it had never had it. Never rejects, and ends within seconds. */
  close(): Promise<void>
}

import type { PresenceMessage } from '../../src/protocol/presence.ts'

/** Who is on one topic, as a client knows it that was told a list and what changed since. */
export class PresenceView {
  /** Connections of each user. */
  readonly members = new Map<string, number>()
  /** Whether the list is whole. */
  isKnown = false

  /** Says what is wrong with the message, after the ones before it. */
  take({ members, continued, more, partial, count, joined, updated, left }: PresenceMessage): string | undefined {
    if (partial) return 'is partial, though the rule allows a list'
    if (members) {
      if (!continued) this.members.clear()
      this.isKnown = more !== true
    }
    if (!members && !this.isKnown) return 'came before the list'
    const problem = members ? undefined : this.#problemOf(joined, updated, left)
    for (const { user, connections } of [...(members ?? []), ...(joined ?? []), ...(updated ?? [])]) {
      this.members.set(user, connections)
    }
    for (const user of left ?? []) this.members.delete(user)
    if (problem || !this.isKnown || count === this.members.size) return problem
    return `says ${count} users, and leads to ${this.members.size}`
  }

  #problemOf(
    joined: PresenceMessage['joined'],
    updated: PresenceMessage['updated'],
    left: PresenceMessage['left'],
  ): string | undefined {
    const twice = joined?.find(({ user }) => this.members.has(user))
    if (twice) return `tells that ${twice.user} joined, who was there`
    const unknown =
      updated?.find(({ user }) => !this.members.has(user))?.user ?? left?.find(user => !this.members.has(user))
    return unknown === undefined ? undefined : `tells something of ${unknown}, who was not there`
  }
}

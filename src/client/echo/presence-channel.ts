import type { Member, Roster, RosterChange } from '../index.ts'
import { PushPrivateChannel } from './channel.ts'

const [HERE, JOINING, LEAVING] = ['#here', '#joining', '#leaving']

/** What the callback of routes/channels.php returned for a user. */
const infoOf = ({ user, info }: Member): unknown => info ?? { id: user }

/** A channel that says who is there. */
export class PushPresenceChannel extends PushPrivateChannel {
  private roster: Roster | undefined
  private isTold = false
  /** What `here` was told of each user: another tab of somebody is no news. */
  private told = new Map<string, string>()

  /**
   * Calls `callback(members)` when it is known who is there, the page itself included, and again when what is known of
   * somebody changes. What changed while the connection was lost comes as `joining` and `leaving`.
   */
  here(callback: CallableFunction): this {
    this.add(HERE, callback)
    if (this.isTold) queueMicrotask(() => callback(this.members()))
    return this
  }

  joining(callback: CallableFunction): this {
    return this.add(JOINING, callback)
  }

  leaving(callback: CallableFunction): this {
    return this.add(LEAVING, callback)
  }

  override join(isBehind = false): void {
    super.join(isBehind)
    const roster = this.home.client.presence(this.topic)
    if (roster === this.roster) return
    this.roster = roster
    this.isTold = false
    roster.listen(change => this.changed(roster, change))
    if (roster.isKnown) this.tell()
  }

  override unsubscribe(): void {
    super.unsubscribe()
    this.roster = undefined
  }

  private members(): unknown[] {
    return (this.roster?.members ?? []).map(infoOf)
  }

  private tell(): void {
    this.isTold = true
    this.told = new Map(this.roster?.members.map(it => [it.user, JSON.stringify(infoOf(it))]))
    this.emit(HERE, this.members())
  }

  private changed(roster: Roster, { joined, updated, left }: RosterChange): void {
    if (roster !== this.roster) return
    const own = this.home.client.welcome?.user
    const isOther = ({ user }: Member) => user !== own
    // The page is no newcomer to itself: it is one of those who are here.
    if (!this.isTold) return this.tell()
    for (const member of joined.filter(isOther)) {
      this.told.set(member.user, JSON.stringify(infoOf(member)))
      this.emit(JOINING, infoOf(member))
    }
    for (const member of left.filter(isOther)) this.emit(LEAVING, infoOf(member))
    const isNews = (member: Member) => this.told.get(member.user) !== JSON.stringify(infoOf(member))
    if ([...updated, ...joined].some(isNews)) this.tell()
  }
}

/**
 * Which commands carry publications in a Cluster. `false`: PUBLISH and SUBSCRIBE, which every server hands on to all
 * others. `true`: SPUBLISH and SSUBSCRIBE, at the master of the topic alone. The others are steps from one to the other,
 * in which nodes receive both: with 'receive' they publish with PUBLISH, with 'publish' they publish with SPUBLISH.
 */
export type Sharded = boolean | 'receive' | 'publish'

export const SHARDED: readonly unknown[] = [true, false, 'receive', 'publish']

/** How publications are sent and received. */
export class PubSub {
  readonly publish: 'PUBLISH' | 'SPUBLISH'
  /** Whether nodes hear PUBLISH, and whether they hear SPUBLISH. */
  readonly isClassic: boolean
  readonly isSharded: boolean

  constructor(sharded: Sharded) {
    this.publish = sharded === true || sharded === 'publish' ? 'SPUBLISH' : 'PUBLISH'
    this.isClassic = sharded !== true
    this.isSharded = sharded !== false
  }
}

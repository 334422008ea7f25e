import type { Redis } from 'ioredis'
import { CommandLink } from './commands.ts'
import { Functions } from './functions.ts'
import type { Address } from './link.ts'
import type { ClusterMaster } from './masters.ts'
import { Names } from './names.ts'
import { RedisSubscriber, type RedisSubscriberEvents, type RedisSubscriberOptions } from './subscriber.ts'

export interface ShardOptions extends RedisSubscriberOptions {
  prefix: string
  isCluster: boolean
}

/** The links of a node to one master, and what it receives over them. */
export class Shard implements ClusterMaster {
  readonly names: Names
  readonly commands: CommandLink
  readonly functions: Functions
  readonly subscriber: RedisSubscriber

  constructor(clients: { commands: Redis; subscriber: Redis }, options: ShardOptions, events: RedisSubscriberEvents) {
    this.names = new Names(options.prefix)
    const changed = (isUp: boolean, error: Error | undefined) => {
      if (isUp) void this.subscriber.commandsUp()
      else this.subscriber.commandsDown()
      // Another server may have its slots by now.
      if (!isUp) events.redirected()
      events.change(error)
    }
    this.commands = new CommandLink(clients.commands, changed, events.redirected)
    this.functions = new Functions(this.commands, options)
    this.subscriber = new RedisSubscriber(clients.subscriber, this, options, events)
  }

  get isLive(): boolean {
    return this.commands.isUp && this.subscriber.isLive
  }

  moveTo(address: Address): void {
    this.commands.moveTo(address)
    this.subscriber.moveTo(address)
  }

  readonly keysMoved = (): void => this.subscriber.keysMoved()

  close(): void {
    this.subscriber.close()
    this.commands.close()
  }
}

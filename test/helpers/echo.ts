import type {
  ChannelError,
  PushChannel,
  PushConnector,
  PushConnectorOptions,
  PushPresenceChannel,
  PushPrivateChannel,
} from '../../src/client/echo/index.ts'
import { Inbox } from './waiting.ts'

/** As much of Laravel Echo as is used here: its own types need packages that it does not bring. */
export interface Echo {
  connector: PushConnector
  channel(name: string): PushChannel
  private(name: string): PushPrivateChannel
  join(name: string): PushPresenceChannel
  listen(name: string, event: string, callback: CallableFunction): PushChannel
  leave(name: string): void
  leaveAllChannels(): void
  socketId(): string | undefined
  connectionStatus(): string
  encryptedPrivate(name: string): unknown
  disconnect(): void
}

interface LaravelEcho {
  default: new (options: PushConnectorOptions & { broadcaster: typeof PushConnector }) => Echo
  EventFormatter: new (namespace: string | false) => { format(event: string): string }
}

const NAME = 'laravel-echo'

export const { default: EchoClass, EventFormatter } = (await import(NAME)) as LaravelEcho

/** Resolves when every channel is heard: on the present connection, or on the next one. */
export async function heard(...channels: PushChannel[]): Promise<void> {
  const all = channels.map(channel => {
    const box = new Inbox<true>(`the subscription of ${channel.name}`)
    channel.subscribed(() => box.put(true))
    return box.take()
  })
  await Promise.all(all)
}

export function errorsOf(channel: PushChannel): Inbox<ChannelError> {
  const errors = new Inbox<ChannelError>(`an error of ${channel.name}`)
  channel.error((error: ChannelError) => errors.put(error))
  return errors
}

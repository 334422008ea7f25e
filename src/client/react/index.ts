/** Hooks for React 18 and later. Nothing is opened while React renders, so that a server can render them too. */
export { ClientError } from '../handlers.ts'
export type { Application } from './application.ts'
export {
  type ChannelOptions,
  type MessageHandler,
  type MessageHandlers,
  type Messages,
  type MessagesOptions,
  type TopicOrNone,
  useChannel,
  useMessages,
} from './channel.ts'
export type { ChannelState, PresenceState } from './held-topic.ts'
export { usePresence } from './presence.ts'
export { PushProvider, type PushProviderProps, useClient, useClientState } from './provider.ts'

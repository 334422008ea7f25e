import pushBridge from './plugin.ts'

export default pushBridge
export type { Connections, PushBridge, Status } from './bridge.ts'
export type { PushError } from './errors.ts'
export type { PushConnection } from './identity.ts'
export {
  type ApiKey,
  type Authentication,
  type Authorization,
  type ClientHandler,
  clientHandler,
  type PushBridgeOptions,
} from './options.ts'
export { CLOSE, shouldReconnect } from './protocol.ts'
export type {
  Publications,
  Publish,
  PublishedMessage,
  PublishFailure,
  PublishOptions,
  PublishRequest,
  PublishResult,
} from './publish.ts'
export type { Action, Grant, Right } from './rights.ts'
export type { PublicationSchemas } from './schemas.ts'
export { isTopic, type Topic } from './topic.ts'
export { pushBridge }

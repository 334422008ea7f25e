import pushBridge from './plugin.ts'

export default pushBridge
export type { Connections, PushBridge, Status } from './bridge.ts'
export type { TraceStep } from './broker/trace-steps.ts'
export type { PushConnection } from './connection/identity.ts'
export type { Ingress, IngressParts, OpenIngress } from './ingress/ingress.ts'
export type { Intake, Verdict } from './ingress/intake.ts'
export type { IngressStatus } from './ingress/roads.ts'
export type { NodesQuery } from './node/monitoring/inquirer.ts'
export type {
  BusyTopic,
  Explanation,
  NodeReport,
  Nodes,
  RecentPublication,
  Sample,
  TopicReport,
} from './node/monitoring/report-schemas.ts'
export type { Members, MembersQuery, OnlineUser } from './node/presence/reader.ts'
export type { ClientPublication } from './options/client-publications.ts'
export type { CompressionOption } from './options/compression.ts'
export type { EventsInput } from './options/events.ts'
export {
  type ClientHandler,
  clientHandler,
  type Json,
  type LocalHandler,
  type RequestsOf,
  type TypedHandler,
  type WorkerHandler,
} from './options/handlers.ts'
export type { HealthInput, MetricsInput } from './options/monitoring.ts'
export type { ApiKey, Authentication, Authorization, PushBridgeOptions } from './options/options.ts'
export type { PresenceOption } from './options/presence.ts'
export { binaryForm, bytesOf } from './protocol/binary.ts'
export type { PushError } from './protocol/errors.ts'
export type { EventKind } from './protocol/event.ts'
export { CLOSE, type From, shouldReconnect } from './protocol/messages.ts'
export type { Member } from './protocol/presence.ts'
export type { Action, Grant, KeyAction, KeyGrant, Right } from './protocol/rights.ts'
export { isTopic, type Topic } from './protocol/topic.ts'
export type { HistoryMessage, HistoryQuery, TopicHistory } from './publish/history-page.ts'
export type { Publish, PublishFailure, PublishResult } from './publish/publish.ts'
export type { Publications, PublishedMessage, PublishOptions, PublishRequest } from './publish/request.ts'
export type { PublicationSchemas, PublicationsOf } from './publish/schemas.ts'
export { pushBridge }

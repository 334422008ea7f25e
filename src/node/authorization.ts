import type { PushConnection } from '../connection/identity.ts'
import type { PushBridgeOptions } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { type Action, actionsOn, grantedActions, type Right } from '../protocol/rights.ts'
import { type Topic, topicKind } from '../protocol/topic.ts'

/** A connection, or what is to become one. */
type Authorizable = Pick<PushConnection, 'id' | 'user' | 'data' | 'topics'> & { allow: readonly Right[] }

/** Throws PUSH_ERR_FORBIDDEN unless `connection` may subscribe to `topic`. */
export async function authorizeSubscribe(
  authorize: PushBridgeOptions['authorize'],
  connection: Authorizable,
  topic: Topic,
  since: string | undefined,
): Promise<void> {
  if (connection.topics.has(topic)) return
  if (topicKind(topic) === 'connection') throw new errors.FORBIDDEN(`${topic} is not this connection`)
  await authorizeAction(authorize, connection, topic, { action: 'subscribe', since })
}

/** Throws PUSH_ERR_FORBIDDEN unless the action on `topic` is granted: `authorize` decides, without it `allow`. */
export async function authorizeAction(
  authorize: PushBridgeOptions['authorize'],
  connection: Authorizable,
  topic: Topic,
  { action, since }: { action: Action; since?: string | undefined },
): Promise<void> {
  const granted = authorize
    ? grantedActions(await authorize(connection, topic, { action, since }))
    : actionsOn(connection.allow, topic)
  if (granted.includes(action)) return
  const others = granted.length > 0 && `grants ${granted.join(', ')} on ${topic}, not ${action}`
  if (authorize) throw new errors.FORBIDDEN(others ? `authorize() ${others}` : `${topic} was refused by authorize()`)
  const missing = others ? `authenticate() ${others}` : `${topic} is not among the topics that authenticate() allowed`
  throw new errors.FORBIDDEN(`${missing}, and there is no authorize option`)
}

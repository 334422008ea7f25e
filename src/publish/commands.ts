import { errors } from '../protocol/errors.ts'
import { CLOSE, closeProblem } from '../protocol/messages.ts'
import { type Topic, topicProblem } from '../protocol/topic.ts'
import type { Publisher } from './publish.ts'
import type { PublishResult } from './result.ts'

/** What can be done to connections on any node. `app.push`, the HTTP API and scripts have the same commands. */
export class Commands {
  readonly #publisher: Publisher

  constructor(publisher: Publisher) {
    this.#publisher = publisher
  }

  async subscribe(target: string, topic: string): Promise<PublishResult> {
    return this.#publisher.command(target, { kind: 'subscribe', topic: channelTopic(topic) })
  }

  async unsubscribe(target: string, topic: string): Promise<PublishResult> {
    return this.#publisher.command(target, { kind: 'unsubscribe', topic: channelTopic(topic) })
  }

  async close(target: string, code: number = CLOSE.NORMAL, reason = ''): Promise<PublishResult> {
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    return this.#publisher.command(target, { kind: 'close', code, reason })
  }
}

function channelTopic(topic: string): Topic {
  const problem = topicProblem(topic) ?? (topic.startsWith('channel:') ? undefined : `${topic} is not a channel`)
  if (problem) throw new errors.TOPIC(problem)
  return topic as Topic
}

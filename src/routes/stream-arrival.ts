import type { FastifyRequest } from 'fastify'
import type { Identity } from '../connection/identity.ts'
import type { Since } from '../delivery/recovery.ts'
import { authorizeSubscribe } from '../node/authorization.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, limitError, type PushError } from '../protocol/errors.ts'
import { ownTopics, type Topic } from '../protocol/topic.ts'
import type { Admission, Admitted } from './admission.ts'
import { askedIn, firstMessageOf, heldIn } from './stream-request.ts'

/** Whose event stream it will be. */
export interface Arrival extends Admitted {
  /** Topics that the client asked for and does not get, and why. */
  refusals: ReadonlyMap<Topic, PushError>
}

type Decided = Pick<Arrival, 'topics' | 'refusals'>

/** Decides whether a request gets an event stream, and with which topics. */
export class Arrivals {
  readonly #admission: Admission
  readonly #options: Options

  constructor(admission: Admission, options: Options) {
    this.#admission = admission
    this.#options = options
  }

  /** Throws a PushError that says why the request is refused. */
  async of(request: FastifyRequest): Promise<Arrival> {
    const { topics: wanted, since: said } = askedIn(request)
    const visit = await this.#admission.admit(request, '')
    const admitted = 'identity' in visit ? visit : await this.#admission.admitLater(firstMessageOf(request), visit)
    const { identity, topics } = admitted
    const own = new Set([...ownTopics(identity.id, identity.user), ...topics])
    const since = heldIn(request, said ?? admitted.since, new Set([...own, ...wanted]))
    const others = [...wanted].filter(topic => !own.has(topic))
    const room = Math.max(0, this.#options.limits.topics - topics.length)
    const decided = await this.#decide({ ...identity, topics: own }, { wanted: others, since, room }, request)
    return { ...admitted, since, topics: [...topics, ...decided.topics], refusals: decided.refusals }
  }

  /** One topic that is refused must not keep the client from all others: on a WebSocket it does not either. */
  async #decide(
    who: Identity & { topics: Set<Topic> },
    { wanted, since, room }: { wanted: readonly Topic[]; since: Since; room: number },
    request: FastifyRequest,
  ): Promise<Decided> {
    const { topics: most, pending } = this.#options.limits
    const topics: Topic[] = []
    const refusals = new Map<Topic, PushError>()
    const problemOf = async (topic: Topic): Promise<PushError | undefined> => {
      try {
        const { authorize } = this.#options.callbacks
        const granting = authorizeSubscribe(authorize, who, topic, since.get(topic))
        await this.#admission.refusals.watch(who, topic, granting)
        return undefined
      } catch (error) {
        return presentable(error, request)
      }
    }
    const possible = wanted.slice(0, room)
    // As many at a time as a client may ask at a time over a WebSocket.
    for (let at = 0; at < possible.length; at += pending) {
      const some = possible.slice(at, at + pending)
      const problems = await Promise.all(some.map(problemOf))
      for (const [i, topic] of some.entries()) {
        const problem = problems[i]
        if (problem) refusals.set(topic, problem)
        else topics.push(topic)
      }
    }
    for (const topic of wanted.slice(room)) {
      const refusal = limitError('topics', `a connection may have ${most} topics (limits.topics)`)
      this.#admission.refusals.add(who, topic, refusal)
      refusals.set(topic, refusal)
    }
    return { topics, refusals }
  }
}

/** Why a topic is refused, for the client. */
function presentable(error: unknown, request: FastifyRequest): PushError {
  if (isPushError(error) && error.statusCode < 500) return error
  request.log.error({ err: error }, 'push: a handler failed')
  return new errors.HANDLER()
}

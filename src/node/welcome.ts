import type { Broker } from '../broker/broker.ts'
import type { Connection } from '../connection/connection.ts'
import type { Known } from '../delivery/recovery.ts'
import type { Options } from '../options/options.ts'
import type { Feature, TopicState, Welcome } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import { takesMessages } from './identities.ts'

interface Able {
  broker: Pick<Broker, 'canRecord'>
  options: Pick<Options, 'callbacks' | 'clientPublications' | 'tickets'>
  presence: object | undefined
}

/** What a client can ask of this node. Over an event stream it can ask for nothing later. */
export function featuresOf(
  { broker, options, presence }: Able,
  { transport }: Pick<Connection, 'transport'>,
): Feature[] {
  if (transport === 'sse') return broker.canRecord ? ['recovery'] : []
  const features: Feature[] = ['ack']
  if (broker.canRecord) features.push('recovery', 'history')
  if (options.callbacks.onBinary) features.push('binary')
  if (presence) features.push('presence')
  if (Object.keys(options.clientPublications).length > 0) features.push('publish')
  if (takesMessages(options)) features.push('authenticate')
  return features
}

/** Encodes the first message that a client gets. The part that all connections of a node share is encoded once. */
export class Welcomes {
  readonly #ofNode: string

  constructor(ofNode: Pick<Welcome, 'node' | 'protocol' | 'heartbeat'>) {
    // Without its braces: it goes into the middle of an object.
    this.#ofNode = JSON.stringify(ofNode).slice(1, -1)
  }

  encode(
    { id, user }: Pick<Connection, 'id' | 'user'>,
    features: readonly Feature[],
    topics: readonly Topic[],
    known: Pick<Known, 'get'> | undefined,
  ): string {
    const who = `"connection":"${id}","user":${user === null ? 'null' : quote(user)}`
    let states = ''
    for (const topic of topics) states += `${states && ','}${quote(topic)}:${encodeState(known?.get(topic))}`
    return `{"type":"welcome","payload":{${who},${this.#ofNode},"features":${JSON.stringify(features)},"topics":{${states}}}}`
  }
}

function encodeState(state: TopicState | undefined): string {
  if (state?.id === undefined || state.seq === undefined) return state ? JSON.stringify(state) : '{}'
  const { id, seq, recovered } = state
  return `{"id":${quote(id)},"seq":${seq}${recovered === undefined ? '' : `,"recovered":${recovered}`}}`
}

/** Text that needs no escape, as nearly all names do. JSON.stringify would take half of the time of a welcome. */
const PLAIN = /^[\w .:@/-]*$/

function quote(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text)
}

import type { Ingress } from '../ingress/ingress.ts'
import { streamsIngress } from '../ingress/streams/streams.ts'

/** The flags of `serve` that are about publications which come in from queues, for `parseArgs`. */
export const INGRESS_FLAGS = { 'ingress-streams-topics': { type: 'string' } } as const

export const INGRESS_USAGE = `
  INGRESS_STREAMS_TOPICS  --ingress-streams-topics LIST  what the stream push:ingress may publish on, such as channel:orders.*
`

/** The roads that flags and environment open. Flags win, and what is empty is not set. */
export function readIngress(
  values: Readonly<Record<string, string | boolean | undefined>>,
  env: NodeJS.ProcessEnv,
): readonly Ingress[] {
  const list = (values['ingress-streams-topics'] as string | undefined) || env.INGRESS_STREAMS_TOPICS
  if (!list) return []
  const topics = list.split(',').map(topic => topic.trim())
  try {
    return [streamsIngress({ topics })]
  } catch (cause) {
    const problem = (cause as Error).message.replace(/^.*streamsIngress\.topics /, '')
    throw new Error(`INGRESS_STREAMS_TOPICS (--ingress-streams-topics) is "${list}": it ${problem}`, { cause })
  }
}

/** Those of the file as well, but for one that has the same name. */
export function withRoadsOf(file: readonly Ingress[] | undefined, own: readonly Ingress[]): readonly Ingress[] {
  return [...(file ?? []).filter(({ name }) => own.every(road => road.name !== name)), ...own]
}

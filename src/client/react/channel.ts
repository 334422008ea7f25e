import { useCallback, useEffect, useInsertionEffect, useRef, useState, useSyncExternalStore } from 'react'
import type { Gap } from '../../protocol/messages.ts'
import type { PublishedMessage } from '../options.ts'
import type { MessagesOf } from './application.ts'
import { type ChannelState, IDLE, SUBSCRIBING } from './held-topic.ts'
import { useShared } from './provider.ts'

/** A topic such as `channel:orders`. Nothing is subscribed while there is none. */
export type TopicOrNone = string | null | undefined | false

/** For all messages of a topic. */
export type MessageHandler = (payload: unknown, message: PublishedMessage) => unknown

/** For messages of some types. */
export type MessageHandlers = {
  [Type in keyof MessagesOf & string]?: (
    payload: MessagesOf[Type],
    message: PublishedMessage<MessagesOf[Type]>,
  ) => unknown
}

export interface ChannelOptions {
  /** The newest so many messages of a recorded topic come first, if this is the first component that has the topic. */
  last?: number
  /** Messages were or may have been missed: fetch again what the page shows of the topic. */
  onGap?: (gap: Gap) => unknown
}

const ALL = '*'

/** What was given last, for handlers that outlive the render. Before layout effects, in which a message may be waited for. */
function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value)
  useInsertionEffect(() => {
    latest.current = value
  })
  return latest
}

/**
 * Subscribes a topic while the component is shown. `handlers`: a function for all messages, or an object with one for each
 * type. They may be new at each render: the last ones are called, and nothing is subscribed again. All components on a topic
 * share one subscription, which ends a second after the last of them is gone.
 */
export function useChannel(
  topic: TopicOrNone,
  handlers?: MessageHandler | MessageHandlers,
  { last, onGap }: ChannelOptions = {},
): ChannelState {
  const shared = useShared()
  const latest = useLatest({ handlers, onGap, last })
  // A type has no spaces.
  const types =
    typeof handlers === 'function'
      ? ALL
      : Object.keys(handlers ?? {})
          .sort()
          .join(' ')
  // Before the subscription, because missed messages follow at once.
  useEffect(() => {
    if (!topic || !types) return
    const client = shared.open()
    const handle = (type: string) => (payload: unknown, message: PublishedMessage) =>
      handlerOf(latest.current.handlers, type)?.(payload, message)
    const stops = types.split(' ').map(type => client.on(type, handle(type), { topic }))
    return () => stops.forEach(stop => void stop())
  }, [shared, topic, types, latest])
  const listensToGaps = onGap !== undefined
  useEffect(() => {
    if (topic && listensToGaps) return shared.listenToGaps(topic, gap => latest.current.onGap?.(gap))
  }, [shared, topic, listensToGaps, latest])
  useEffect(() => {
    if (topic) return shared.hold(topic, { last: latest.current.last })
  }, [shared, topic, latest])
  return useSyncExternalStore(
    shared.watch,
    () => (topic ? (shared.held(topic)?.channel ?? SUBSCRIBING) : IDLE),
    () => (topic ? SUBSCRIBING : IDLE),
  )
}

function handlerOf(handlers: MessageHandler | MessageHandlers | undefined, type: string): MessageHandler | undefined {
  if (typeof handlers === 'function') return handlers
  return (handlers as Partial<Record<string, MessageHandler>> | undefined)?.[type]
}

export interface MessagesOptions {
  /** The newest so many are kept. Default 100. */
  limit?: number
  /** As that of `useChannel`. */
  last?: number
}

export interface Messages extends ChannelState {
  /** The newest messages that came while the component was shown, oldest first. */
  readonly messages: readonly PublishedMessage[]
  /** Messages were or may have been missed since the last `clear`. */
  readonly gap: Gap | undefined
  /** Forgets messages and gap. */
  readonly clear: () => void
}

interface Log {
  topic: TopicOrNone
  messages: readonly PublishedMessage[]
  gap: Gap | undefined
}

const LIMIT = 100
const NONE: Pick<Log, 'messages' | 'gap'> = { messages: [], gap: undefined }

/** The newest messages of a topic, for a component that shows them. */
export function useMessages(topic: TopicOrNone, { limit = LIMIT, last }: MessagesOptions = {}): Messages {
  const [log, setLog] = useState<Log>({ topic, ...NONE })
  const add = (next: (log: Omit<Log, 'topic'>) => Omit<Log, 'topic'>) =>
    // What came for another topic before belongs to no list of this one.
    setLog(log => ({ topic, ...next(log.topic === topic ? log : NONE) }))
  const state = useChannel(
    topic,
    (_payload, message) => add(({ messages, gap }) => ({ messages: newest([...messages, message], limit), gap })),
    { ...(last !== undefined && { last }), onGap: gap => add(({ messages }) => ({ messages, gap })) },
  )
  const clear = useCallback(() => setLog({ topic, ...NONE }), [topic])
  const { messages, gap } = log.topic === topic ? log : NONE
  return { ...state, messages, gap, clear }
}

function newest(messages: readonly PublishedMessage[], limit: number): readonly PublishedMessage[] {
  return messages.length > limit ? messages.slice(messages.length - limit) : messages
}

import { useEffect, useSyncExternalStore } from 'react'
import type { TopicOrNone } from './channel.ts'
import { NOBODY_WANTED, NOBODY_YET, type PresenceState } from './held-topic.ts'
import { useShared } from './provider.ts'

/**
 * Who is on a topic, kept up to date while the component is shown. Also subscribes the topic, with the same subscription as
 * `useChannel`. The server must grant `presence` on the topic.
 */
export function usePresence(topic: TopicOrNone): PresenceState {
  const shared = useShared()
  useEffect(() => {
    if (topic) return shared.hold(topic, { presence: true })
  }, [shared, topic])
  return useSyncExternalStore(
    shared.watch,
    () => (topic ? (shared.held(topic)?.presence ?? NOBODY_YET) : NOBODY_WANTED),
    () => (topic ? NOBODY_YET : NOBODY_WANTED),
  )
}

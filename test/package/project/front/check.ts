/** The types that the document declares for the hooks reach them. */
import { useChannel, useClient } from 'fastify-push-bridge/react'
import './hooks.js'

export function Check(): void {
  useChannel('channel:orders', { 'order.created': ({ id }) => id.toFixed() })
  // @ts-expect-error: there is no such message
  useChannel('channel:orders', { 'order.deleted': () => {} })
  const client = useClient()
  client?.request('greet', { name: 'Ann' }).then(({ text, at }) => text.trim() + at.trim())
  // @ts-expect-error: a name is required
  client?.request('greet', {})
}

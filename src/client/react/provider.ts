import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useContext,
  useEffect,
  useState,
  useSyncExternalStore,
} from 'react'
import { type Client, type ClientEvents, type ClientOptions, connect } from '../index.ts'
import type { MessagesOf, RequestsOf } from './application.ts'
import { type AnyClient, SharedClient } from './shared-client.ts'

const Context = createContext<SharedClient | undefined>(undefined)

/**
 * Either a client, which you close yourself, or a `url` to connect to when the provider is shown: the client is closed a
 * second after it is gone. `options` are read when it connects; another `url` means another client.
 */
export type PushProviderProps = { children?: ReactNode } & (
  | { client: AnyClient; url?: undefined; options?: undefined }
  | { client?: undefined; url: string | URL; options?: ClientOptions | undefined }
)

/** Gives the components below it one client. */
export function PushProvider({ client, url, options, children }: PushProviderProps): ReactElement {
  const source = client ?? String(url)
  const make = () => ({
    source,
    shared: client ? SharedClient.of(client) : new SharedClient({ connect: () => connect(url!, options) }),
  })
  // Not a memo: React may forget those, and would connect anew.
  const [kept, keep] = useState(make)
  const { shared } = kept.source === source ? kept : make()
  if (kept.source !== source) keep({ source, shared })
  useEffect(() => shared.mount(), [shared])
  return createElement(Context.Provider, { value: shared }, children)
}

export function useShared(): SharedClient {
  const shared = useContext(Context)
  if (!shared) throw new Error('there is no <PushProvider> above this component')
  return shared
}

/** The client, to send with. With a `url`: undefined on a server and until the page is shown. */
export function useClient(): Client<MessagesOf, RequestsOf> | undefined {
  const shared = useShared()
  const client = useSyncExternalStore(
    shared.watch,
    () => shared.client,
    () => shared.given,
  )
  return client as Client<MessagesOf, RequestsOf> | undefined
}

const CONNECTING: ClientEvents['state'] = { state: 'connecting' }

/** Whether the client is connected: `state`, and after a loss `code`, `reason` and `delay`, as the event `state` says. */
export function useClientState(): ClientEvents['state'] {
  const shared = useShared()
  return useSyncExternalStore(
    shared.watch,
    () => shared.state,
    () => CONNECTING,
  )
}

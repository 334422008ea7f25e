import type { ClientOptions } from '../options.ts'

/** What a backend answers for the channels that a page wants. */
export interface Admission {
  /** Stands for the user, and for the channels that are not denied. */
  ticket: string
  /** Channels that the user may not hear, each with a status such as 403; with 408, 425, 429 or 5xx it is asked again. */
  denied?: Readonly<Record<string, number>>
}

/** What `new Echo({ broadcaster: PushConnector, … })` takes besides. Options of other connectors are ignored. */
export interface PushConnectorOptions extends Pick<ClientOptions, 'WebSocket'> {
  /** The WebSocket route of the nodes: ws, wss, http, https, or relative to the page. Default `/ws`. */
  url?: string | URL
  /** What begins the events of the application. Default `App.Events`; false: nothing. */
  namespace?: string | false
  /** Where Laravel says what a user may hear. Default `/broadcasting/auth`. */
  authEndpoint?: string
  auth?: { headers?: Record<string, string> }
  /** Default: that of `<meta name="csrf-token">`. */
  csrfToken?: string | null
  bearerToken?: string | null
  /** Whether cookies go to `authEndpoint` of another host: `include`. Default `same-origin`. */
  credentials?: 'omit' | 'same-origin' | 'include'
  /** Asks somebody else than `authEndpoint`. Called with the names of all channels, again for every connection. */
  admit?: (channels: string[]) => Promise<Admission>
  /** Options of Echo and of other connectors. */
  [other: string]: unknown
}

/** Why a channel is not heard: given to `error` of the channel. */
export class ChannelError extends Error {
  readonly type = 'AuthError'
  /** The HTTP status, if there was an answer. */
  readonly status: number | undefined
  /** The code of the node, if it refused. */
  readonly code: string | undefined
  constructor(message: string, { status, code, cause }: { status?: number; code?: string; cause?: unknown } = {}) {
    super(message, { cause })
    this.status = status
    this.code = code
  }
}

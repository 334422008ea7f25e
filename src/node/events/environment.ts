import type { EventsInput } from '../../options/events.ts'

/** The flags of `serve` that are about events, for `parseArgs`. */
export const EVENT_FLAGS = {
  'events-stream': { type: 'string' },
  'events-kinds': { type: 'string' },
  'events-messages': { type: 'string' },
  'backend-url': { type: 'string' },
  'backend-calls': { type: 'string' },
  'backend-headers': { type: 'string' },
  'backend-messages': { type: 'string' },
  'backend-events': { type: 'string' },
  'backend-timeout': { type: 'string' },
  'backend-allow-http': { type: 'boolean' },
} as const

export const EVENT_USAGE = `
  EVENTS_STREAM           --events-stream events      write events to the stream push:events, for consumer groups
  EVENTS_KINDS            --events-kinds LIST         of connect, disconnect, subscribe, unsubscribe, message, rejected
  EVENTS_MESSAGES         --events-messages LIST      types of client messages that become events, such as chat.*
  BACKEND_URL             --backend-url URL           ask and tell a backend over HTTP; all calls are POSTed there
  BACKEND_SECRET                                      signs the calls; several, separated by commas, while it is changed
  BACKEND_CALLS           --backend-calls LIST        what it decides: connect, subscribe
  BACKEND_HEADERS         --backend-headers LIST      headers of the upgrade that connect passes on, such as cookie
  BACKEND_MESSAGES        --backend-messages LIST     types of client messages that it answers
  BACKEND_EVENTS          --backend-events LIST       kinds of event that it gets in batches
  BACKEND_TIMEOUT         --backend-timeout 2000      milliseconds that a call may take
  BACKEND_ALLOW_HTTP      --backend-allow-http        http:// to another machine
`

type Values = Record<string, string | boolean | undefined>

/** What the file of `serve` says of events, on which flags and environment build. */
type Base = EventsInput | undefined

/** The option `events` out of flags and environment, over `base`. Flags win, and what is empty is not set. */
export function readEvents(values: Values, env: NodeJS.ProcessEnv, base?: Base): EventsInput | undefined {
  const text: Text = name => {
    const flag = name.toLowerCase().replaceAll('_', '-')
    return (values[flag] as string | undefined) || env[name] || undefined
  }
  const messages = listOf(text('EVENTS_MESSAGES'))
  const stream = readStream(text, base?.stream)
  const isHttpAllowed = values['backend-allow-http'] === true || ['1', 'true'].includes(env.BACKEND_ALLOW_HTTP ?? '')
  const http = readBackend(text, { secret: env.BACKEND_SECRET, isHttpAllowed }, base?.http)
  if (!stream && !http) {
    if (messages) throw new Error('EVENTS_MESSAGES is set, but neither EVENTS_STREAM nor BACKEND_URL')
    return base
  }
  return { ...base, ...(messages && { messages }), ...(stream && { stream }), ...(http && { http }) }
}

type Text = (name: string) => string | undefined

function listOf<T extends string>(text: string | undefined): T[] | undefined {
  return text?.split(',').map(item => item.trim() as T)
}

function readStream(text: Text, base: EventsInput['stream']): EventsInput['stream'] {
  const name = text('EVENTS_STREAM')
  const include = listOf<never>(text('EVENTS_KINDS'))
  if (name || base) return { ...base, ...(name && { name }), ...(include && { include }) }
  if (include) throw new Error('EVENTS_KINDS (--events-kinds) is set, but not EVENTS_STREAM (--events-stream)')
  return undefined
}

/** The secret comes from the environment or a file: what stands in a command is seen by every user of the machine. */
function readBackend(
  text: Text,
  { secret, isHttpAllowed }: { secret: string | undefined; isHttpAllowed: boolean },
  base: EventsInput['http'],
): EventsInput['http'] {
  const url = text('BACKEND_URL') ?? base?.url
  const calls = listOf(text('BACKEND_CALLS'))
  if (!url) {
    if (calls) throw new Error('BACKEND_CALLS (--backend-calls) is set, but not BACKEND_URL (--backend-url)')
    return undefined
  }
  const secrets = listOf(secret || undefined) ?? base?.secret
  // A file without a secret is refused like any other option that is incomplete.
  if (!secrets && !base) throw new Error('BACKEND_SECRET is not set: calls to BACKEND_URL are signed with it')
  const unknown = calls?.find(call => call !== 'connect' && call !== 'subscribe')
  if (unknown !== undefined) {
    throw new Error(`BACKEND_CALLS (--backend-calls) has "${unknown}": known are connect and subscribe`)
  }
  const given = {
    secret: secrets,
    connect: calls?.includes('connect'),
    subscribe: calls?.includes('subscribe'),
    headers: listOf(text('BACKEND_HEADERS')),
    message: listOf(text('BACKEND_MESSAGES')),
    events: listOf<never>(text('BACKEND_EVENTS')),
    timeout: text('BACKEND_TIMEOUT') === undefined ? undefined : Number(text('BACKEND_TIMEOUT')),
    allowHttp: isHttpAllowed || undefined,
  }
  const set = Object.entries(given).filter(([, value]) => value !== undefined)
  return { ...base, url, ...Object.fromEntries(set) } as EventsInput['http']
}

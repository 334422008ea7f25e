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

/** The option `events` out of flags and environment; undefined if nothing is set. Flags win, and what is empty is not set. */
export function readEvents(values: Values, env: NodeJS.ProcessEnv): EventsInput | undefined {
  const text = (name: string) => {
    const flag = name.toLowerCase().replaceAll('_', '-')
    return (values[flag] as string | undefined) || env[name] || undefined
  }
  const list = (name: string) =>
    text(name)
      ?.split(',')
      .map(item => item.trim())
  const messages = list('EVENTS_MESSAGES')
  const stream = readStream(text('EVENTS_STREAM'), list('EVENTS_KINDS'))
  const http = readBackend(text, list, values['backend-allow-http'] === true, env)
  if (!stream && !http) {
    if (messages) throw new Error('EVENTS_MESSAGES is set, but neither EVENTS_STREAM nor BACKEND_URL')
    return undefined
  }
  return { ...(messages && { messages }), ...(stream && { stream }), ...(http && { http }) }
}

type List<T extends string = string> = T[] | undefined

function readStream(name: string | undefined, kinds: List): EventsInput['stream'] {
  if (name) return { name, ...(kinds && { include: kinds as never }) }
  if (kinds) throw new Error('EVENTS_KINDS (--events-kinds) is set, but not EVENTS_STREAM (--events-stream)')
  return undefined
}

/** The secret comes from the environment alone: what stands in a command is seen by every user of the machine. */
function readBackend(
  text: (name: string) => string | undefined,
  list: (name: string) => List,
  isHttpAllowed: boolean,
  env: NodeJS.ProcessEnv,
): EventsInput['http'] {
  const url = text('BACKEND_URL')
  const calls = list('BACKEND_CALLS')
  if (!url) {
    if (calls) throw new Error('BACKEND_CALLS (--backend-calls) is set, but not BACKEND_URL (--backend-url)')
    return undefined
  }
  if (!env.BACKEND_SECRET) throw new Error('BACKEND_SECRET is not set: calls to BACKEND_URL are signed with it')
  const unknown = calls?.find(call => call !== 'connect' && call !== 'subscribe')
  if (unknown !== undefined) {
    throw new Error(`BACKEND_CALLS (--backend-calls) has "${unknown}": known are connect and subscribe`)
  }
  const [headers, message, events] = ['BACKEND_HEADERS', 'BACKEND_MESSAGES', 'BACKEND_EVENTS'].map(list)
  const timeout = text('BACKEND_TIMEOUT')
  return {
    url,
    secret: env.BACKEND_SECRET.split(',').map(secret => secret.trim()),
    connect: calls?.includes('connect'),
    subscribe: calls?.includes('subscribe'),
    headers,
    message,
    events: events as never,
    timeout: timeout === undefined ? undefined : Number(timeout),
    allowHttp: isHttpAllowed || ['1', 'true'].includes(env.BACKEND_ALLOW_HTTP ?? ''),
  }
}

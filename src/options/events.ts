import { isIP } from 'node:net'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { EVENT_KINDS, typePatternProblem } from '../protocol/event.ts'
import { patternProblem } from '../protocol/topic.ts'
import { fail, refuse, withDefaults } from './values.ts'

const Kinds = (description: string, options: { default: readonly string[] }) =>
  Type.Array(Type.Enum([...EVENT_KINDS]), { ...options, description })

const STREAM_NAME = '^events(:[A-Za-z0-9_.-]{1,100})?$'

const RuleSchema = Type.Object(
  {
    name: Type.String({ pattern: STREAM_NAME, description: 'name of the stream, such as "events:shop"' }),
    kinds: Type.Optional(Kinds('kinds of event that go there', { default: [] })),
    topics: Type.Optional(Type.Array(Type.String(), { description: 'patterns of the topics whose events go there' })),
    types: Type.Optional(Type.Array(Type.String(), { description: 'types of the client messages that go there' })),
  },
  { additionalProperties: false },
)

const StreamSchema = Type.Object(
  {
    name: Type.String({
      pattern: STREAM_NAME,
      default: 'events',
      description: 'the stream is redisPrefix and this name: "events", or "events:" and a name',
    }),
    include: Kinds('kinds of event that are written', { default: [...EVENT_KINDS] }),
    rules: Type.Array(RuleSchema, {
      default: [],
      maxItems: 100,
      description: 'other streams: [{ name, kinds, topics, types }]; the first rule that fits decides',
    }),
    maxLength: Type.Integer({
      minimum: 1,
      maximum: 100_000_000,
      default: 100_000,
      description: 'entries that a stream keeps, and up to a hundred more',
    }),
    maxAge: Type.Integer({
      minimum: 1000,
      maximum: 366 * 24 * 60 * 60 * 1000,
      default: 24 * 60 * 60 * 1000,
      description: 'how long an entry is kept, in milliseconds',
    }),
  },
  { additionalProperties: false },
)

const HttpSchema = Type.Object(
  {
    url: Type.String({ description: 'the address of the backend that all calls are POSTed to' }),
    secret: Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1, maxItems: 10 })], {
      description: 'signs each call; several while they are rotated',
    }),
    connect: Type.Boolean({ default: false, description: 'the backend says who connects, in place of authenticate' }),
    headers: Type.Array(Type.String({ pattern: '^[A-Za-z0-9-]{1,100}$' }), {
      default: [],
      maxItems: 50,
      description: 'headers of the upgrade request that connect passes on, such as "cookie"',
    }),
    subscribe: Type.Boolean({
      default: false,
      description: 'the backend says who may subscribe, in place of authorize',
    }),
    message: Type.Array(Type.String(), {
      default: [],
      maxItems: 1000,
      description: 'types of client messages that the backend answers, or patterns such as "chat.*"',
    }),
    events: Kinds('kinds of event that are sent in batches', { default: [] }),
    timeout: Type.Integer({
      minimum: 10,
      maximum: 60_000,
      default: 2000,
      description: 'how long a call may take, in milliseconds',
    }),
    concurrency: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 20,
      description: 'calls of one kind at the same time; up to 1,000 more wait',
    }),
    maxAnswer: Type.Integer({
      minimum: 1,
      maximum: 16 * 1024 * 1024,
      default: 64 * 1024,
      description: 'maximum bytes of an answer',
    }),
    allowHttp: Type.Boolean({ default: false, description: 'allow http:// to hosts other than this machine' }),
  },
  { additionalProperties: false },
)

/** The option `events`: what backends are told of and asked. */
export const EventsSchema = Type.Object(
  {
    messages: Type.Array(Type.String(), {
      default: [],
      maxItems: 1000,
      description: 'types of client messages without a handler that become events, or patterns such as "chat.*"',
    }),
    queue: Type.Object(
      {
        count: Type.Integer({
          minimum: 1,
          maximum: 10_000_000,
          default: 10_000,
          description: 'events that may wait, for each stream and for HTTP',
        }),
        bytes: Type.Integer({
          minimum: 1024,
          maximum: Number.MAX_SAFE_INTEGER,
          default: 16 * 1024 * 1024,
          description: 'bytes of events that may wait, for each stream and for HTTP',
        }),
      },
      { additionalProperties: false, default: {}, description: 'what may wait while Redis or the backend is away' },
    ),
    stream: Type.Optional(StreamSchema),
    http: Type.Optional(HttpSchema),
  },
  { additionalProperties: false },
)

const check = Compile(EventsSchema)

export type EventsOptions = Static<typeof EventsSchema>
export type EventStreamOptions = NonNullable<EventsOptions['stream']>
export type BackendOptions = NonNullable<EventsOptions['http']>

type Given<T> = { [K in keyof T]?: T[K] | undefined }

/** The option `events` as an application writes it. */
export interface EventsInput extends Given<Pick<EventsOptions, 'messages'>> {
  queue?: Given<EventsOptions['queue']> | undefined
  stream?: Given<EventStreamOptions> | undefined
  http?: (Given<BackendOptions> & Pick<BackendOptions, 'url' | 'secret'>) | undefined
}

/** Other options that events have to go together with. */
export interface Neighbours {
  redis: unknown
  handlers: Readonly<Record<string, unknown>>
  callbacks: { authenticate?: unknown; authorize?: unknown }
}

/** Fills in the defaults. Throws PUSH_ERR_OPTIONS, which names the wrong option and says what to write instead. */
export function parseEvents(given: Record<string, unknown>, neighbours: Neighbours): EventsOptions {
  const plain = withDefaults(EventsSchema, given)
  if (!check.Check(plain)) refuse(EventsSchema, check.Errors(plain), plain, 'events.')
  const options = plain as EventsOptions
  const { stream, http, messages } = options
  if (!stream && !http) fail('events', 'has neither stream nor http: write for example { stream: {} }')
  checkTypes('events.messages', messages, neighbours)
  if (stream) checkStream(stream, neighbours)
  if (http) checkBackend(http, neighbours)
  if (messages.length > 0 && !stream?.include.includes('message') && !http?.events.includes('message')) {
    fail('events.messages', 'leads nowhere: neither events.stream.include nor events.http.events has "message"')
  }
  return options
}

function checkStream({ rules }: EventStreamOptions, { redis }: Neighbours): void {
  if (redis === false) fail('events.stream', 'needs the option redis: without it no backend could read the stream')
  for (const [i, { topics = [], types = [] }] of rules.entries()) {
    const problem =
      topics.map(patternProblem).find(found => found !== undefined) ??
      types.map(typePatternProblem).find(found => found !== undefined)
    if (problem) fail(`events.stream.rules.${i}`, `cannot be used: ${problem}`)
  }
}

const MIN_SECRET_LENGTH = 16

function checkBackend(http: BackendOptions, neighbours: Neighbours): void {
  const { connect, subscribe, message, events, headers } = http
  const badUrl = backendProblem(http)
  if (badUrl) fail('events.http.url', badUrl)
  if ([http.secret].flat().some(secret => secret.length < MIN_SECRET_LENGTH)) {
    fail('events.http.secret', `has fewer than ${MIN_SECRET_LENGTH} characters and can be guessed: write a longer one`)
  }
  if (!connect && !subscribe && message.length === 0 && events.length === 0) {
    fail('events.http', 'asks and tells nothing: set connect, subscribe, message or events')
  }
  if (headers.length > 0 && !connect) fail('events.http.headers', 'needs connect: true, which passes them on')
  const { authenticate, authorize } = neighbours.callbacks
  if (connect && authenticate) fail('events.http.connect', 'takes the place of authenticate: give one of them')
  if (subscribe && authorize) fail('events.http.subscribe', 'takes the place of authorize: give one of them')
  checkTypes('events.http.message', message, neighbours)
}

function checkTypes(path: string, types: readonly string[], { handlers }: Neighbours): void {
  const problem = types.map(typePatternProblem).find(found => found !== undefined)
  if (problem) fail(path, problem)
  const handled = types.find(type => Object.hasOwn(handlers, type))
  if (handled) fail(path, `has "${handled}", for which there is a handler: it would never be used`)
}

/** Why this address cannot be called. The message does not contain it, since it may hold a secret. */
function backendProblem({ url, allowHttp }: BackendOptions): string | undefined {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed || !/^https?:$/.test(parsed.protocol)) {
    return 'must be an address such as "https://backend.example.com/push"'
  }
  if (parsed.username || parsed.password) return 'has a user or a password in it: calls are signed with secret instead'
  if (parsed.hash) return 'has a # in it, which is never sent: leave it out'
  if (parsed.protocol === 'https:' || allowHttp || isLoopback(parsed.hostname)) return undefined
  return 'is http:// to another machine, where everybody between can read along: use https://, or set allowHttp'
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'))
}

import { encodeEventId } from '../../src/protocol/event-id.ts'
import { arriveAll } from './requests.ts'
import type { Target } from './target.ts'

const ID = '1g2h3j4k5m6n7.2.1700000000000-0'

const eventsOf = (query: string, more = '') =>
  `GET /ws/-/events?${query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n${more}\r\n`

/** As the client of this package says it, where a WebSocket would carry the message. */
const first = (message: string) => `push-authenticate: ${encodeURIComponent(message)}\r\n`

const REQUESTS = [
  eventsOf('user=42&topics=channel:a,channel:kept1'),
  eventsOf('topics=channel:a%2Cb&topics=channel:room1,user:7,all'),
  eventsOf(`user=42&topics=channel:kept1&lastEventId=${ID}`),
  eventsOf(`user=42&since={"channel:kept1":"${ID}"}&topics=channel:kept1`),
  eventsOf('user=42&topics=channel:kept1', `Last-Event-ID: ${encodeEventId(new Map([['channel:kept1', ID]]))}\r\n`),
  eventsOf('user=nobody'),
  eventsOf('ticket=0123456789abcdef0123456789abcdef'),
  eventsOf('user=later', first('{"type":"authenticate","payload":{"ticket":"0123456789abcdef0123456789abcdef"}}')),
  eventsOf('user=1', 'Origin: http://127.0.0.1\r\n'),
  eventsOf('user=1', 'Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n'),
  eventsOf('user=1', 'Sec-Fetch-Site: cross-site\r\nConnection: close\r\n'),
]

/** Requests for event streams: what they ask for, what they hold, and who they say they are. */
export const fuzzStreams: Target = (world, count, isOver) =>
  arriveAll(world, { count, isOver, input: async () => world.mutator.bytes(REQUESTS) })

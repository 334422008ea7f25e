import { randomBytes } from 'node:crypto'
import { Findings, type Ran, type Target, times } from './target.ts'
import { exchange, type Seen, upgradeOf } from './wire.ts'
import type { World } from './world.ts'

const WIDTH = 40

const BODIES: (string | object)[] = [
  { to: 'user:1', type: 'notice', payload: { text: 'hi' } },
  { to: ['user:1', 'channel:a'], type: 'n', except: 'user:2', receipt: true, seq: 1 },
  { to: 'channel:kept1', type: 'n', history: { size: 10, ttl: 60 }, idempotencyKey: 'k' },
  [{ to: 'user:1', type: 'a' }, { to: 'nobody' }],
  { target: 'user:1', code: 4403, reason: 'x' },
  { target: 'user:1', topic: 'channel:vip' },
  { target: 'user:7' },
  { user: '42', allow: ['channel:*'], join: ['channel:a'], data: { a: 1 }, info: {}, expires: 4102444800000, ttl: 30 },
]

const PATHS = [
  '/push',
  '/push/close',
  '/push/subscribe',
  '/push/unsubscribe',
  '/push/revoke',
  '/push/tickets',
  '/push/presence?topic=channel:room1&count=10&cursor=0',
  '/push/users?count=5',
  '/push/user?user=42',
  '/push/history?topic=channel:kept1&last=5&limit=10',
  '/push/explain?topic=channel:kept1',
  '/push/nodes?samples=false&topics=5',
  '/push/status',
  '/push/nothing',
]

/** Ends a header, and a body that is shorter than it says; behind a whole request a server skips them. */
const LINES = Buffer.from('\r\n'.repeat(2600))

/** The push API, with requests that are whole and some that are not. */
export const fuzzHttp: Target = async (world, count, isOver) => {
  const found = new Findings()
  let refused = 0
  await times(count, { width: WIDTH, isOver }, async () => {
    found.inputs++
    const { bytes, isCut } = httpInput(world)
    const seen = await exchange(world.port, bytes, isCut ? undefined : LINES)
    note(found, seen)
    if (isOurs(seen)) refused++
  })
  return found.of([{ counter: 'api_refused_total', least: refused, most: refused, unseen: () => true }])
}

/** `isCut`: the client goes before it has sent what it announced. */
function httpInput({ mutator, random, apiKey }: World): { bytes: Buffer; isCut: boolean } {
  const body = mutator.bytes(BODIES)
  const known = random.pick(PATHS)
  const isGet = known.includes('?') === random.next() < 0.9
  const path = random.next() < 0.7 ? known : mutator.text([known])
  const key = random.next() < 0.95 ? apiKey : mutator.text([apiKey])
  const type = random.next() < 0.95 ? 'application/json' : mutator.text(['application/json; charset=utf-8'])
  const length = random.next() < 0.98 ? body.length : random.index(5000)
  const head =
    `${isGet ? 'GET' : 'POST'} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${key}\r\n` +
    (isGet ? '\r\n' : `Content-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`)
  const whole = Buffer.concat([Buffer.from(head, 'latin1'), isGet ? Buffer.alloc(0) : body])
  if (random.next() < 0.05) return { bytes: mutator.bytes([whole.toString('latin1')]), isCut: false }
  return { bytes: whole, isCut: !isGet && length > body.length && random.next() < 0.5 }
}

const UPGRADES = [
  upgradeOf('/ws'),
  upgradeOf('/ws/orders?user=42'),
  upgradeOf('/ws?user=nobody'),
  upgradeOf('/ws?ticket=0123456789abcdef0123456789abcdef'),
  upgradeOf('/ws?since={"user:42":"abc.1.1-0"}&user=42'),
  upgradeOf('/ws', 'Origin: http://127.0.0.1\r\n'),
  upgradeOf('/ws', 'Origin: https://evil.example\r\nSec-WebSocket-Protocol: push.json, chat\r\n'),
  upgradeOf('/ws/-/events'),
  upgradeOf('/%77s/a%20b', 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n'),
]

export const fuzzUpgrades: Target = (world, count, isOver) =>
  arriveAll(world, { count, isOver, input: async () => world.mutator.bytes(UPGRADES) })

const TICKETS: object[] = [
  { user: '42', allow: ['channel:orders'], join: ['channel:news', 'user:7'], data: { a: [1] }, info: { name: 'Ann' } },
  { user: 7, allow: [{ topics: ['channel:*'], actions: ['subscribe', 'publish'] }], expires: 4102444800000 },
  {},
]

/** Tickets that another program wrote, and tickets that nobody did. */
export const fuzzTickets: Target = (world, count, isOver) =>
  arriveAll(world, {
    count,
    isOver,
    async input() {
      const { mutator, random, redis } = world
      const ticket = randomBytes(16).toString('hex')
      await redis.admin.set(`push:ticket:${ticket}`, mutator.bytes(TICKETS), 'EX', 60)
      const given = random.next() < 0.9 ? ticket : mutator.text([ticket]).replaceAll(/[\r\n]/g, '')
      const path = random.next() < 0.7 ? '/ws' : '/ws/orders'
      return Buffer.from(upgradeOf(`${path}?ticket=${given}`), 'latin1')
    },
  })

/** Of what ends in a header, and only of that: to a client that is let in it would be a violation. */
const END = Buffer.from('\r\n\r\n')
const NOTHING = Buffer.alloc(0)

interface Arriving {
  count: number
  isOver(): boolean
  input(): Promise<Buffer>
}

/** Requests that want a connection: each is opened or refused, once, and says so. */
export async function arriveAll(world: World, { count, isOver, input }: Arriving): Promise<Ran> {
  const found = new Findings()
  let [opened, refused] = [0, 0]
  await times(count, { width: WIDTH, isOver }, async () => {
    const given = await input()
    // To no bytes at all a server says nothing for a while.
    const bytes = given.length > 0 ? given : Buffer.from('?')
    found.inputs++
    const seen = await exchange(world.port, bytes, bytes.includes(END) ? NOTHING : END)
    note(found, seen)
    // What comes with the handshake may break the protocol at once: that connection was opened.
    if (seen.first === 0 || (seen.first !== undefined && seen.first < 1012)) opened++
    else if (seen.first !== undefined || (isOurs(seen) && isRefusal(seen.code!))) refused++
    else if (seen.status === 101) found.problem('a connection was opened, and ended without a word')
  })
  const exactly = (n: number) => ({ least: n, most: n })
  return found.of([
    { counter: 'connections_opened_total', ...exactly(opened) },
    { counter: 'connections_closed_total', ...exactly(opened) },
    {
      counter: 'upgrades_refused_total',
      except: 'PUSH_ERR_UPGRADE_REQUIRED',
      ...exactly(refused),
      unseen: isRefusal,
    },
  ])
}

/** A plain GET is told what it lacks, and any other method what to use: those are no upgrades that are refused. */
const isRefusal = (code: string): boolean => !['PUSH_ERR_UPGRADE_REQUIRED', 'PUSH_ERR_METHOD'].includes(code)

function isOurs({ status = 0, code }: Seen): boolean {
  // In an answer that went well, a code is that of one item of a batch.
  return status >= 400 && !!code?.startsWith('PUSH_ERR_')
}

function note(found: Findings, { status, code, first }: Seen): void {
  found.saw(
    first === undefined ? `${status ?? 'no answer'} ${code ?? ''}`.trim() : first === 0 ? 'opened' : `closed ${first}`,
  )
  if (code === 'PUSH_ERR_INTERNAL' || first === 4500) found.problem('the application failed: see the log of the node')
}

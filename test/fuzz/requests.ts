import { randomBytes } from 'node:crypto'
import { Findings, type Target, times } from './target.ts'
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
  { user: '42', allow: ['channel:*'], join: ['channel:a'], data: { a: 1 }, info: {}, expires: 4102444800000, ttl: 30 },
]

const PATHS = [
  '/push',
  '/push/close',
  '/push/subscribe',
  '/push/unsubscribe',
  '/push/tickets',
  '/push/presence?topic=channel:room1&count=10&cursor=0',
  '/push/users?count=5',
  '/push/user?user=42',
  '/push/history?topic=channel:kept1&last=5&limit=10',
  '/push/status',
  '/push/nothing',
]

/** The push API, with requests that are whole and some that are not. */
export const fuzzHttp: Target = async (world, count, isOver) => {
  const found = new Findings()
  let refused = 0
  let unseen = 0
  await times(count, { width: WIDTH, isOver }, async () => {
    found.inputs++
    const seen = await exchange(world.port, httpInput(world))
    note(found, seen)
    if (isHidden(seen)) unseen++
    else if (isOurs(seen)) refused++
  })
  return found.of([{ counter: 'api_refused_total', least: refused, most: refused + unseen }])
}

function httpInput({ mutator, random, apiKey }: World): Buffer {
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
  return random.next() < 0.95 ? whole : mutator.bytes([whole.toString('latin1')])
}

const UPGRADES = [
  upgradeOf('/ws'),
  upgradeOf('/ws/orders?user=42'),
  upgradeOf('/ws?user=nobody'),
  upgradeOf('/ws?ticket=0123456789abcdef0123456789abcdef'),
  upgradeOf('/ws?since={"user:42":"abc.1.1-0"}&user=42'),
  upgradeOf('/ws', 'Origin: http://127.0.0.1\r\n'),
  upgradeOf('/ws', 'Origin: https://evil.example\r\nSec-WebSocket-Protocol: push.json, chat\r\n'),
  upgradeOf('/ws/-/sse'),
  upgradeOf('/%77s/a%20b', 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n'),
]

export const fuzzUpgrades: Target = (world, count, isOver) =>
  upgradeAll(world, { count, isOver, input: async () => world.mutator.bytes(UPGRADES) })

const TICKETS: object[] = [
  { user: '42', allow: ['channel:orders'], join: ['channel:news', 'user:7'], data: { a: [1] }, info: { name: 'Ann' } },
  { user: 7, allow: [{ topics: ['channel:*'], actions: ['subscribe', 'publish'] }], expires: 4102444800000 },
  {},
]

/** Tickets that another program wrote, and tickets that nobody did. */
export const fuzzTickets: Target = (world, count, isOver) =>
  upgradeAll(world, {
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

interface Upgrading {
  count: number
  isOver(): boolean
  input(): Promise<Buffer>
}

async function upgradeAll(world: World, { count, isOver, input }: Upgrading) {
  const found = new Findings()
  let [opened, refused, unseen] = [0, 0, 0]
  await times(count, { width: WIDTH, isOver }, async () => {
    const bytes = await input()
    found.inputs++
    const seen = await exchange(world.port, bytes)
    note(found, seen)
    // What comes with the handshake may break the protocol at once: that connection was opened.
    if (seen.first === 0 || (seen.first !== undefined && seen.first < 1012)) opened++
    else if (seen.first !== undefined || isOurs(seen)) refused++
    else if (seen.status === undefined || seen.status === 101) unseen++
  })
  return found.of([
    { counter: 'connections_opened_total', least: opened, most: opened + unseen },
    { counter: 'upgrades_refused_total', except: 'PUSH_ERR_UPGRADE_REQUIRED', least: refused, most: refused + unseen },
  ])
}

/** What a node has answered to may be hidden by the 400 of Node for what came behind it. */
const isHidden = ({ status, code }: Seen): boolean => status === undefined || (status === 400 && code === undefined)

/** A plain GET is told what it lacks: that is no upgrade which is refused. */
function isOurs({ status = 0, code }: Seen): boolean {
  // In an answer that went well, a code is that of one item of a batch.
  return status >= 400 && !!code?.startsWith('PUSH_ERR_') && code !== 'PUSH_ERR_UPGRADE_REQUIRED'
}

function note(found: Findings, { status, code, first }: Seen): void {
  found.saw(
    first === undefined ? `${status ?? 'no answer'} ${code ?? ''}`.trim() : first === 0 ? 'opened' : `closed ${first}`,
  )
  if (code === 'PUSH_ERR_INTERNAL' || first === 4500) found.problem('the application failed: see the log of the node')
}

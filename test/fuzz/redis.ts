import { encode } from '@msgpack/msgpack'
import { type RawData, WebSocket } from 'ws'
import { parseRecorded } from '../../src/broker/redis/history.ts'
import { envelopeToJson } from '../../src/protocol/codecs/strict-msgpack.ts'
import { decodeEnvelope } from '../../src/protocol/envelope.ts'
import { Slice } from '../../src/protocol/slice.ts'
import { once, within } from '../helpers/waiting.ts'
import { Findings, type Target } from './target.ts'
import type { World } from './world.ts'

const ENVELOPES: (string | object)[] = [
  { type: 'notice', payload: { text: 'hi' } },
  { type: 'a.b:c/d', payload: [1, 2, { x: null }], seq: 7, except: ['user:1', 'connection:abc'], v: 1 },
  { type: 'n', receipt: 'token-1', ack: true, ext: { a: 1 }, 'x-trace': 'y', from: { user: '42' } },
  { control: 'close', code: 4403, reason: 'bye', receipt: 't' },
  { control: 'subscribe', topic: 'channel:elsewhere' },
  { control: 'unsubscribe', topic: 'channel:elsewhere' },
  { control: 'presence', epoch: 'a', version: 1, mark: 'm', after: '', count: 0, anonymous: 0, joined: [] },
  '{"type":"notice","payload":{"text":"\\u00e9 \\"q\\""},"payload":2}',
  ' {"type":"spaced"}',
  'notice',
]

const RECORDED = '1g2h3j4k5m6n7.2.1700000000000-0 2 1g2h3j4k5m6n7.1.1700000000000-0\n{"type":"notice"}'

/** Inputs that are on their way at the same time. Without a bound the node would only be shown to be slower than Redis. */
const BATCH = 100
const MAX_ENVELOPE = 262_144

/** Every topic on which an input is either delivered or rejected for one reason, which is known beforehand. */
const EXACT = ['push:channel:fuzz', 'push:all']

/** Envelopes of every kind on the channels of a node. */
export const fuzzChannels: Target = async (world, count, isOver) => {
  const found = new Findings()
  const rejections: Record<string, number> = {}
  const witness = await listener(world.port, '/ws/fuzz')
  while (found.inputs < count && !isOver()) {
    const inputs = Array.from({ length: Math.min(BATCH, count - found.inputs) }, () => channelInput(world))
    const pipeline = world.redis.admin.pipeline()
    for (const [channel, bytes] of inputs) pipeline.publish(channel, bytes)
    pipeline.publish(EXACT[0]!, MARK)
    await within(Promise.all([pipeline.exec(), marked(witness)]), 'the end of a batch')
    found.inputs += inputs.length
    for (const [channel, bytes] of inputs) {
      if (!EXACT.includes(channel)) continue
      const reason = rejectionOf(bytes)
      found.saw(reason ?? 'delivered')
      if (reason) rejections[reason] = (rejections[reason] ?? 0) + 1
    }
  }
  witness.terminate()
  const elsewhere = found.inputs - Object.values(found.outcomes).reduce((sum, n) => sum + n, 0)
  found.saw('elsewhere', elsewhere)
  // What nobody hears, and what hits the canary's own topics, may be rejected too: those have no exact number.
  const counts = Object.entries(rejections).map(([reason, least]) => ({
    counter: 'publications_rejected_total',
    reason,
    least,
    most: least,
  }))
  return found.of(counts)
}

function channelInput({ mutator, random }: World): [channel: string, bytes: Buffer] {
  const isPacked = random.next() < 0.3
  const bytes = isPacked ? mutator.coded(ENVELOPES, sample => encode(sample)) : mutator.bytes(ENVELOPES)
  if (random.next() < 0.8 && !parseRecorded(new Slice(bytes))) return [random.pick(EXACT), bytes]
  // Nobody is there who could reject anything.
  const channel = mutator.text(['push:channel:nobody', 'push:user:nobody', 'push:nodes', 'push:node:abc'])
  const isHeard = EXACT.includes(channel) || channel === 'push:user:canary'
  return [isHeard ? 'push:nodes' : channel, random.next() < 0.5 ? bytes : mutator.bytes([RECORDED])]
}

function rejectionOf(bytes: Buffer): string | undefined {
  const decoded = decodeEnvelope(bytes, MAX_ENVELOPE, envelopeToJson)
  if (decoded.kind === 'rejected') return decoded.reason
  // A command for a channel or for all: one mistake could close every connection.
  return decoded.kind === 'publication' || decoded.kind === 'presence' ? undefined : 'field'
}

/** Comes to the witness behind all inputs of a batch. */
const MARK = '{"type":"mark-of-the-fuzz-run"}'

function marked(witness: WebSocket): Promise<void> {
  return new Promise(resolve => {
    const look = (data: RawData) => {
      if (!String(data).startsWith('{"type":"mark-of-the-fuzz-run"')) return
      witness.off('message', look)
      resolve()
    }
    witness.on('message', look)
  })
}

async function listener(port: number, path: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  await once(socket, 'message')
  return socket
}

const envelope = JSON.stringify(ENVELOPES[0])

/** Functions of the nodes, with arguments that work. */
const CALLS: readonly (readonly (string | number)[])[] = [
  ['push_publish', 1, 'push:channel:fz1', envelope, 10, 60],
  ['push_publish', 1, 'push:channel:fz2', envelope, 10, 60, 'key-1'],
  ['push_heads', 2, 'push:channel:fz1', 'push:channel:fz2', '0000000000000', 262144],
  ['push_history', 1, 'push:channel:fz1', '0000000000000', 262144, '0000000000000.1.1-0', 10, 1000],
  ['push_newest', 1, 'push:channel:fz1', '0000000000000', 262144, 5, 10, 1000],
  ['push_compare', 1, 'push:channel:fz1', '0000000000000', 262144, '0000000000000.1.1-0'],
  ['push_presence', 1, 'push:channel:fz1', 'owner', 0, 2, 1500, 0, 0, '42', 1, 1700000000000, '{}', 'abc'],
  ['push_purge', 1, 'push:channel:fz1', 'owner', 10, 0],
  ['push_members', 1, 'push:channel:fz1', 0, 10],
  ['push_member', 1, 'push:channel:fz1', '42'],
  ['push_tick', 2, '{push:shard-9}:timeline', '{push:shard-9}:tick:x', 'push:node:x', 0, 1, 'a', 0, 'b', 0, 0],
]

/** Backends call this one. The others are for nodes, and may fail in Lua when somebody else gives them nonsense. */
const PUBLIC = 'push_publish'

/** What Redis itself or the functions say of a call that cannot be. */
const REFUSED =
  /^(PUSH_ERR_\w+|ERR (wrong number of arguments|Number of keys|Bad number of keys|value is not)|WRONGTYPE)/

export const fuzzFunctions: Target = async (world, count, isOver) => {
  const found = new Findings()
  while (found.inputs < count && !isOver()) {
    const calls = Array.from({ length: Math.min(BATCH, count - found.inputs) }, () => callInput(world))
    const pipeline = world.redis.admin.pipeline()
    for (const args of calls) pipeline.call('FCALL', ...args)
    const replies = (await within(pipeline.exec(), 'the answers of functions'))!
    found.inputs += calls.length
    for (const [i, [error]] of replies.entries()) judge(found, calls[i]!, error)
  }
  await forget(world)
  return found.of([])
}

function judge(found: Findings, call: readonly unknown[], error: Error | null): void {
  const [, code] = REFUSED.exec(error?.message ?? '') ?? []
  if (!error) found.saw('done')
  else if (code) found.saw(code)
  else if (call[0] !== PUBLIC) found.saw('an error in Lua')
  else found.problem(`${JSON.stringify(call.map(String))}: ${error.message}`)
}

function callInput({ mutator, random }: World): (string | Buffer | number)[] {
  const [name, keys, ...args] = random.pick(CALLS) as [string, number, ...(string | number)[]]
  const changed: (string | Buffer | number)[] = [...args]
  for (let i = 1 + random.index(3); i > 0 && changed.length > 0; i--) {
    const at = random.index(changed.length)
    const isKey = at < keys
    const kind = random.next()
    // Keys stay among those that are removed at the end.
    if (isKey) changed[at] = `push:channel:fz${random.index(10)}`
    else if (kind < 0.6) changed[at] = mutator.bytes([String(args[at] ?? '')])
    else if (kind < 0.8) changed[at] = mutator.name()
    else if (kind < 0.9) changed.splice(at, 1)
    else changed.splice(at, 0, mutator.bytes([envelope]))
  }
  return [name, keys, ...changed]
}

async function forget({ redis: { admin } }: World): Promise<void> {
  const keys = [...(await admin.keys('*channel:fz*')), ...(await admin.keys('*shard-9*'))]
  if (keys.length > 0) await admin.unlink(...keys)
}

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { encode } from '@msgpack/msgpack'
import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { parseRecorded } from '../../../src/broker/redis/history.ts'
import { envelopeToJson } from '../../../src/protocol/codecs/strict-msgpack.ts'
import { decodeEnvelope } from '../../../src/protocol/envelope.ts'
import { Slice } from '../../../src/protocol/slice.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'

/** The function takes envelopes in MessagePack as it takes those in JSON: the same checks, the same bytes out as in. */
const SOURCE = readFileSync(new URL('../../../src/broker/redis/push.lua', import.meta.url), 'utf8')
const SCRIPT = `${SOURCE.slice(SOURCE.indexOf('\n'))}\nreturn functions[table.remove(ARGV, 1)](KEYS, ARGV)`

const all = cleanups()
let server: RedisServer
let redis: Redis

before(async () => {
  server = await startRedis(all)
  redis = server.admin
  await redis.call('FUNCTION', 'LOAD', SOURCE)
})

after(() => all.end())

const ways: Record<string, (channel: string, envelope: Buffer) => Promise<unknown>> = {
  function: (channel, envelope) => redis.call('FCALL', 'push_publish', 1, channel, envelope, 100, 60),
  script: (channel, envelope) => redis.call('EVAL', SCRIPT, 1, channel, 'push_publish', envelope, 100, 60),
}

let topics = 0
const newChannel = () => `push:channel:t${++topics}`
const packed = (value: unknown) => Buffer.from(encode(value))

const BROKEN: [code: string, envelope: Buffer][] = [
  ['JSON', Buffer.from([0x81])],
  ['JSON', Buffer.from([0x81, 0xa4, 0x74])],
  ['JSON', Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff])],
  ['JSON', Buffer.concat([packed({ type: 'n' }), Buffer.from([0xc0])])],
  ['JSON', Buffer.concat([packed({ type: 'n' }), packed({ type: 'n' })])],
  ['JSON', Buffer.from([0x81, ...Array(20_000).fill(0x91)])],
  ['JSON', Buffer.from([0x81, 0xa1, 0x61, 0xdd, 0xff, 0xff, 0xff, 0xff])],
  // A list, a text and a number are no envelope, in whatever they are written.
  ['JSON', packed(['n'])],
  ['JSON', packed('type')],
  ['JSON', Buffer.from([0x07])],
  ['TYPE', packed({})],
  ['TYPE', packed({ type: 1 })],
  ['TYPE', packed({ type: 'a b' })],
  ['TYPE', packed({ type: null })],
  ['RESERVED_TYPE', packed({ type: 'push.x' })],
  ['UNKNOWN_KEY', packed({ type: 'n', excpet: 'user:1' })],
  ['JSON', Buffer.from([0x82, 0xa4, ...Buffer.from('type'), 0xa1, 0x6e, 0x01, 0x01])],
  ['JSON', packed({ type: 'n', payload: new Date(0) })],
  ['FIELD', packed({ control: 'close' })],
  ['FIELD', packed({ type: 'n', v: 2 })],
  ['FIELD', packed({ type: 'n', ack: true })],
  ['FIELD', packed({ type: 'n', from: { user: 1 } })],
  ['FIELD', packed({ type: 'n', from: { user: '1', more: 1 } })],
  ['FIELD', packed({ type: 'n', from: 'x' })],
  ['FIELD', packed({ type: 'n', ext: 'x' })],
  ['TOO_LARGE', packed({ type: 'n', payload: Buffer.alloc(262_144) })],
]

for (const [way, publish] of Object.entries(ways)) {
  test(`${way}: what is broken in MessagePack records nothing, and says why by code`, async () => {
    const channel = newChannel()
    for (const [code, envelope] of BROKEN) {
      const what = envelope.subarray(0, 20).toString('hex')
      await assert.rejects(publish(channel, envelope), ({ message }: Error) => {
        assert.match(message, new RegExp(`^PUSH_ERR_${code} .`), what)
        return true
      })
    }
    assert.equal(await redis.exists(`{${channel}}:history`, `{${channel}}:head`), 0)
  })

  test(`${way}: what a node can use is recorded and published byte for byte`, async () => {
    const channel = newChannel()
    const listener = redis.duplicate()
    const messages: Buffer[] = []
    all.after(() => listener.disconnect())
    listener.on('messageBuffer', (_channel, message) => messages.push(message))
    await listener.subscribe(channel)
    const sent: Buffer[] = []
    const envelope = fc.record(
      {
        type: fc.stringMatching(/^[A-Za-z0-9_.:/-]{1,128}$/),
        payload: fc.oneof(fc.jsonValue({ maxDepth: 5 }), fc.uint8Array()),
        from: fc.record({ user: fc.option(fc.constant('42')) }, { noNullPrototype: true }),
        seq: fc.nat(),
        except: fc.array(fc.constantFrom('user:2', 'connection:c')),
        'x-own': fc.jsonValue(),
        ext: fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue(), { noNullPrototype: true }),
      },
      { requiredKeys: ['type'], noNullPrototype: true },
    )
    const property = fc.asyncProperty(envelope, async value => {
      const bytes = packed(value)
      if (decodeEnvelope(bytes, 262_144, envelopeToJson).kind !== 'publication') return
      await publish(channel, bytes)
      sent.push(bytes)
    })
    await fc.assert(property, { numRuns: 200 })
    await listener.ping()
    listener.disconnect()
    assert.ok(sent.length > 50, `${sent.length} were usable`)
    const live = messages.map(message => parseRecorded(new Slice(message))!.envelope.view())
    assert.deepEqual(live, sent)
    const kept = await redis.xrangeBuffer(`{${channel}}:history`, '-', '+')
    assert.deepEqual(
      kept.map(([, fields]) => fields[5]),
      sent.slice(-kept.length),
    )
  })
}

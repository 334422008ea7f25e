import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { parseRecorded } from '../../../src/broker/redis/history.ts'
import { decodeEnvelope } from '../../../src/protocol/envelope.ts'
import { isId, positionOf } from '../../../src/protocol/position.ts'
import { Slice } from '../../../src/protocol/slice.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'

const DAY = 86_400
const SOURCE = readFileSync(new URL('../../../src/broker/redis/push.lua', import.meta.url), 'utf8')
/** The same with a clock that a test sets: `SET clock <milliseconds>`. */
const CLOCKED = SOURCE.replace(
  "local time = redis.call('TIME')",
  "local ms = tonumber(redis.call('GET', 'clock'))\n  local time = { math.floor(ms / 1000), (ms % 1000) * 1000 }",
)
assert.notEqual(CLOCKED, SOURCE)

type Arg = string | Buffer | number
type Call = (name: string, keys: string[], ...args: Arg[]) => Promise<unknown>

const asFunction =
  (client: Redis): Call =>
  (name, keys, ...args) =>
    client.call('FCALL', name, keys.length, ...keys, ...args)

const bodyOf = (source: string) =>
  `${source.slice(source.indexOf('\n'))}\nreturn functions[table.remove(ARGV, 1)](KEYS, ARGV)`

const asScript =
  (client: Redis, source = SOURCE): Call =>
  (name, keys, ...args) =>
    client.call('EVAL', bodyOf(source), keys.length, ...keys, name, ...args)

const all = cleanups()
let server: RedisServer
let redis: Redis
const ways: Record<string, () => Call> = { function: () => asFunction(redis), script: () => asScript(redis) }

before(async () => {
  server = await startRedis(all)
  redis = server.admin
  await redis.call('FUNCTION', 'LOAD', SOURCE)
})

after(() => all.end())

type Answer = [id: string, seq: number, nodes: number, duplicate: number]
type Page = [reason: string, id: string, seq: number, isComplete: number, ...entries: string[]]

const envelope = (n: unknown) => JSON.stringify({ type: 'n', payload: n })

let topics = 0
const newChannel = () => `push:channel:t${++topics}`

const publish = (call: Call, channel: string, text: Arg = envelope(1), size: Arg = 100, ttl: Arg = 60, ...key: Arg[]) =>
  call('push_publish', [channel], text, size, ttl, ...key) as Promise<Answer>

/** What nodes tell: a timeline of the server that began before all histories here, and a limit. */
const SERVER = '0000000000000'
const MAX = 262_144

/** Where channels stand: id and number by turns. */
const heads = (call: Call, channels: string[], server = SERVER, max = MAX) =>
  call('push_heads', channels, server, max) as Promise<(string | number)[]>

const headOf = async (call: Call, channel: string) => String((await heads(call, [channel]))[0])

const read = (call: Call, channel: string, since: string, count = 100, bytes = 1e6, server = SERVER) =>
  call('push_history', [channel], server, MAX, since, count, bytes) as Promise<Page>

const newest = (call: Call, channel: string, count: number, limits = [100, 1e6], server = SERVER) =>
  call('push_newest', [channel], server, MAX, count, ...limits) as Promise<Page>

const compare = (call: Call, channels: string[], ids: Arg[], server = SERVER) =>
  call('push_compare', channels, server, MAX, ...ids) as Promise<number[]>

const stream = async (channel: string) => (await redis.xrange(`{${channel}}:history`, '-', '+')) as [string, string[]][]

/** Messages of a channel as they are published. */
async function listen(channel: string): Promise<{ messages: Buffer[]; end(): Promise<void> }> {
  const client = redis.duplicate()
  const messages: Buffer[] = []
  client.on('messageBuffer', (_channel, message) => messages.push(message))
  await client.subscribe(channel)
  return {
    messages,
    async end() {
      // Answered after whatever was published before.
      await client.ping()
      client.disconnect()
    },
  }
}

for (const [way, make] of Object.entries(ways)) {
  test(`${way}: numbers are contiguous and each names the one before, however many publish at once`, async () => {
    const channel = newChannel()
    const listener = await listen(channel)
    const clients = [0, 1, 2, 3].map(() => redis.duplicate())
    const call = (client: Redis) => (way === 'function' ? asFunction(client) : asScript(client))
    const sent = await Promise.all(
      clients.flatMap(client =>
        Array.from({ length: 50 }, (_, i) => publish(call(client), channel, envelope(i), 1000)),
      ),
    )
    await listener.end()
    for (const client of clients) client.disconnect()
    assert.deepEqual(
      sent.map(([, seq]) => seq).toSorted((a, b) => a - b),
      Array.from({ length: 200 }, (_, i) => i + 1),
    )
    const heard = listener.messages.map(message => parseRecorded(new Slice(message))!)
    assert.equal(heard.length, 200)
    heard.forEach((recorded, i) => {
      assert.equal(recorded.position.seq, i + 1)
      assert.equal(recorded.previous, i === 0 ? '-' : heard[i - 1]!.position.id)
      assert.ok(isId(recorded.position.id))
    })
    const kept = await stream(channel)
    assert.deepEqual(
      kept.map(([, [, id, , previous, , text]]) => [id, previous, text]),
      heard.map(({ position, previous, envelope }) => [position.id, previous, envelope.view().toString()]),
    )
    assert.ok(sent.every(([, , nodes, duplicate]) => nodes === 1 && duplicate === 0))
  })

  test(`${way}: nothing is encoded again`, async () => {
    const call = make()
    const channel = newChannel()
    const texts = [
      '{"type":"n","payload":[]}',
      '{"type":"n","payload":{}}',
      '{"payload":{"a":[],"b":{},"n":100000000000000001,"f":1.0,"e":1e2},"type":"n"}',
      '{ "type" : "n", "x-a": null }',
      '{"type":"n","payload":"\\u0000\\n\\ud800é😀\u2028"}',
      '{"type":"n","payload":1,"payload":2}',
      '{"type":"n","payload":[],"from":{"user":"42"}}',
      '{"from":{"user":null},"type":"n"}',
      '{"type":"n","from":{"user":"\\ud83d\\ude00"}}',
    ]
    const listener = await listen(channel)
    for (const text of texts) await publish(call, channel, text)
    await listener.end()
    const [, , , , ...flat] = await read(call, channel, positionZero(await headOf(call, channel)))
    assert.deepEqual(
      flat.filter((_, i) => i % 2 === 1),
      texts,
    )
    assert.deepEqual(
      listener.messages.map(message => parseRecorded(new Slice(message))!.envelope.view().toString()),
      texts,
    )
  })

  test(`${way}: what is refused records and publishes nothing, and says why by code`, async () => {
    const call = make()
    const channel = newChannel()
    const bad: [code: string, keys: string[], args: Arg[]][] = [
      ['TOPIC', ['push:nowhere'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:channel:'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:connection:c1'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:channel:a b'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:channel:a\u0000'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:user:{a}'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:channel:a*'], [envelope(1), 1, 1]],
      ['TOPIC', ['push:presence:a'], [envelope(1), 1, 1]],
      ['TOPIC', [`push:user:${'é'.repeat(101)}`], [envelope(1), 1, 1]],
      ['FIELD', [], [envelope(1), 1, 1]],
      ['FIELD', [channel, channel], [envelope(1), 1, 1]],
      ['FIELD', [channel], []],
      ...['0', '-1', '1.5', 'x', 'nan', 'inf', '100001', ''].map(
        size => ['FIELD', [channel], [envelope(1), size, 1]] as [string, string[], Arg[]],
      ),
      ...['0', '1.5', 'nan', '31622401', ''].map(
        ttl => ['FIELD', [channel], [envelope(1), 1, ttl]] as [string, string[], Arg[]],
      ),
      ['FIELD', [channel], [envelope(1), 1]],
      ['FIELD', [channel], [envelope(1), 1, 1, '']],
      ['FIELD', [channel], [envelope(1), 1, 1, 'k'.repeat(201)]],
      ['TOO_LARGE', [channel], [envelope('x'.repeat(262_144)), 1, 1]],
      ['FIELD', [channel], ['{"control":"close","type":"n"}', 1, 1]],
      ['FIELD', [channel], ['{"type":"n","v":2}', 1, 1]],
      ['FIELD', [channel], ['{"type":"n","v":null}', 1, 1]],
      ...['null', '"x"', '{}', '[]', '{"user":1}', '{"user":"1","b":1}', '{"usr":"1"}'].map(
        from => ['FIELD', [channel], [`{"type":"n","from":${from}}`, 1, 1]] as [string, string[], Arg[]],
      ),
      ...['null', '1', '"x"', 'true', '[1]'].map(
        ext => ['FIELD', [channel], [`{"type":"n","ext":${ext}}`, 1, 1]] as [string, string[], Arg[]],
      ),
      ...['', '[]', 'null', '1', '{', '{"type":"n"', '{"type":"n"}}', '{"type":"n",}', ' {"type":"n"}', '\ufeff{}'].map(
        text => ['JSON', [channel], [text, 1, 1]] as [string, string[], Arg[]],
      ),
      ['JSON', [channel], [Buffer.from('{"type":"n","payload":"\xff"}', 'latin1'), 1, 1]],
      ['UNKNOWN_KEY', [channel], ['{"type":"n","excpet":[]}', 1, 1]],
      ['UNKNOWN_KEY', [channel], ['{"type":"n","a\\r\\nb":1}', 1, 1]],
      ...['{}', '{"type":1}', '{"type":""}', '{"type":"a b"}', '{"type":"é"}', `{"type":"${'x'.repeat(129)}"}`].map(
        text => ['TYPE', [channel], [text, 1, 1]] as [string, string[], Arg[]],
      ),
      ...['welcome', 'pong', 'gap', 'ack', 'history', 'push.', 'push.x'].map(
        type => ['RESERVED_TYPE', [channel], [`{"type":"${type}"}`, 1, 1]] as [string, string[], Arg[]],
      ),
    ]
    const listener = await listen(channel)
    // Not their number: keys of other tests end meanwhile.
    const before = new Set(await redis.keys('*'))
    for (const [code, where, args] of bad) {
      const what = `${where} ${args.map(arg => String(arg).slice(0, 50))}`
      await assert.rejects(call('push_publish', where, ...args), ({ message }: Error) => {
        assert.match(message, new RegExp(`^PUSH_ERR_${code} .`), what)
        return true
      })
    }
    await listener.end()
    assert.deepEqual(
      (await redis.keys('*')).filter(key => !before.has(key)),
      [],
    )
    assert.equal(listener.messages.length, 0)
  })

  test(`${way}: exactly the newest SIZE are kept, by the largest size that was asked for`, async () => {
    const call = make()
    const property = fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 25 }), async sizes => {
      const channel = newChannel()
      let largest = 0
      for (const [i, size] of sizes.entries()) {
        await publish(call, channel, envelope(i), size)
        largest = Math.max(largest, size)
        const seqs = (await stream(channel)).map(([, [, id]]) => positionOf(id!)!.seq)
        const first = Math.max(1, i + 2 - largest)
        // What an earlier, smaller size had trimmed does not come back.
        assert.equal(seqs.at(-1), i + 1)
        assert.ok(seqs.length <= largest && seqs[0]! >= first)
        seqs.forEach((seq, j) => void assert.equal(seq, seqs[0]! + j))
      }
    })
    await fc.assert(property, { numRuns: 20 })
  })

  test(`${way}: the head outlives its entries, and the ttl only grows`, async () => {
    const call = make()
    const channel = newChannel()
    const [id] = await publish(call, channel, envelope(1), 10, 100)
    const [history, head] = [`{${channel}}:history`, `{${channel}}:head`]
    assert.ok((await redis.ttl(history)) > 95 && (await redis.ttl(history)) <= 100)
    assert.ok((await redis.ttl(head)) > DAY + 95 && (await redis.ttl(head)) <= DAY + 100)
    const [last] = await publish(call, channel, envelope(2), 1, 1)
    assert.ok((await redis.ttl(history)) > 95)
    await redis.del(history)
    assert.deepEqual(await read(call, channel, last), ['', last, 2, 1])
    assert.deepEqual(await read(call, channel, id), ['history_expired', last, 2, 1])
    assert.deepEqual(await heads(call, [channel]), [last, 2])
    assert.equal((await publish(call, channel))[1], 3)
    assert.equal((await read(call, channel, last))[4]?.split('.')[1], '3')
  })

  test(`${way}: a repeat under the same key does nothing and says so`, async () => {
    const call = make()
    const [channel, other] = [newChannel(), newChannel()]
    const listener = await listen(channel)
    const first = await publish(call, channel, envelope(1), 10, 60, 'k')
    await publish(call, channel, envelope('between'), 10, 60)
    assert.deepEqual(await publish(call, channel, envelope(2), 10, 60, 'k'), [first[0], 1, 1, 1])
    assert.equal((await publish(call, other, envelope(1), 10, 60, 'k'))[3], 0)
    assert.equal((await publish(call, channel, envelope(3), 10, 60, 'k2'))[1], 3)
    await listener.end()
    assert.equal(listener.messages.length, 3)
    assert.equal((await stream(channel)).length, 3)
    const ttl = await redis.ttl(`{${channel}}:once:k`)
    assert.ok(ttl > 590 && ttl <= 600, `${ttl}`)
    await publish(call, channel, envelope(1), 10, 7200, 'long')
    assert.ok((await redis.ttl(`{${channel}}:once:long`)) > 7000)
  })

  test(`${way}: a key of a client is remembered for ten minutes, however long the entries are kept`, async () => {
    const call = make()
    const channel = newChannel()
    for (const [key, seconds] of [
      ['client:k', 600],
      ['k', 7200],
      ['client', 7200],
    ] as const) {
      const [id] = await publish(call, channel, envelope(1), 10, 7200, key)
      assert.equal((await publish(call, channel, envelope(1), 10, 7200, key))[0], id)
      const left = await redis.ttl(`{${channel}}:once:${key}`)
      assert.ok(left <= seconds && left > seconds - 500, `${key}: ${left}`)
    }
  })

  test(`${way}: pages are bounded by count and by bytes, and make the whole when put together`, async () => {
    const call = make()
    const channel = newChannel()
    const sizes = [10, 500, 5, 5, 5, 900, 1, 1, 1, 1, 300]
    const texts = sizes.map(size => envelope('x'.repeat(size)))
    for (const text of texts) await publish(call, channel, text)
    const id = await headOf(call, channel)
    const start = positionZero(id)
    for (const [count, bytes] of [
      [100, 1e6],
      [1, 1e6],
      [3, 1e6],
      [100, 1],
      [100, 400],
      [2, 60],
    ] as const) {
      const got: string[] = []
      let since = start
      for (let complete = 0; complete === 0; ) {
        const [reason, head, seq, isComplete, ...flat] = await read(call, channel, since, count, bytes)
        assert.deepEqual([reason, head, seq], ['', id, texts.length])
        const page = flat.filter((_, i) => i % 2 === 1)
        assert.ok(page.length >= 1 && page.length <= count)
        const size = page.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
        assert.ok(page.length === 1 || size <= bytes, `${size} > ${bytes}`)
        got.push(...page)
        since = flat.at(-2)!
        complete = isComplete
      }
      assert.deepEqual(got, texts)
      assert.equal(since, id)
    }
  })

  test(`${way}: ids that name nothing, or no place of this history, are gaps with a reason`, async () => {
    const call = make()
    const channel = newChannel()
    const sent: Answer[] = []
    for (let n = 1; n <= 8; n++) sent.push(await publish(call, channel, envelope(n), 5))
    const head = sent.at(-1)![0]
    const timeline = head.split('.')[0]
    const reasonOf = async (since: string) => {
      const [reason, id, seq, isComplete, ...entries] = await read(call, channel, since)
      assert.deepEqual([id, seq, isComplete, entries.length], [head, 8, 1, 0], since)
      return reason
    }
    for (const since of ['x', 'a.b.c', '1.2', `${timeline}.1.5`, `${head}\n`, ` ${head}`]) {
      assert.equal(await reasonOf(since), 'unknown_id', JSON.stringify(since))
    }
    assert.equal(await reasonOf(head.replace(/^\w+/, 'abc')), 'history_replaced')
    assert.equal(await reasonOf(head.replace('.8.', '.9.')), 'history_replaced')
    assert.equal(await reasonOf(sent[0]![0]), 'history_trimmed')
    assert.equal(await reasonOf(sent[1]![0]), 'history_trimmed')
    assert.equal((await read(call, channel, sent[2]![0])).length, 4 + 2 * 5)
    // The place is that of an entry, the mark is not: the entry of a history that was taken back.
    const [, , mark] = sent[5]![0].split('.')
    assert.equal(await reasonOf(`${timeline}.6.${Number(mark!.split('-')[0]) - 100_000}-0`), 'history_replaced')
    assert.equal(await reasonOf(`${timeline}.6.${sent[3]![0].split('.')[2]}`), 'history_replaced')
  })

  test(`${way}: the newest lead to the head, and stop where the history is broken, too old or too large`, async () => {
    const call = make()
    const channel = newChannel()
    const [, start, zero, isWhole, ...none] = await newest(call, channel, 5)
    assert.match(start, new RegExp(`^${SERVER}\\.0\\.\\d+-0$`))
    assert.deepEqual([zero, isWhole, none], [0, 1, []])
    const sent: Answer[] = []
    for (let n = 1; n <= 40; n++) sent.push(await publish(call, channel, envelope(n)))
    const idsOf = (page: Page) => page.slice(4).filter((_, i) => i % 2 === 0)
    const ids = (from: number) => sent.slice(from - 1).map(([id]) => id)
    const head = sent.at(-1)![0]
    for (const count of [1, 15, 16, 17, 33, 40, 1000]) {
      const page = await newest(call, channel, count)
      assert.deepEqual(page.slice(0, 4), ['', head, 40, 1])
      assert.deepEqual(idsOf(page), ids(Math.max(1, 41 - count)), `${count}`)
    }
    const first = await newest(call, channel, 10, [4, 1e6])
    assert.deepEqual([first[3], idsOf(first)], [0, ids(31).slice(0, 4)])
    assert.deepEqual(idsOf(await read(call, channel, idsOf(first).at(-1) as string)), ids(35))

    // A server that went back in time: the head has a later timeline than the entry.
    const later = `${head.split('.')[0]!.replace(/.$/, 'z')}00`
    const renewed = await newest(call, channel, 2, [100, 1e6], later)
    const newHead = head.replace(/^\w+/, later)
    assert.deepEqual([renewed[1], renewed[3], idsOf(renewed)], [newHead, 1, [sent[38]![0], newHead]])
    assert.deepEqual((await read(call, channel, newHead, 100, 1e6, later)).slice(0, 4), ['', newHead, 40, 1])

    await redis.xdel(`{${channel}}:history`, sent[36]![0].split('.')[2]!)
    assert.deepEqual(idsOf(await newest(call, channel, 10, [100, 1e6], later)).slice(0, -1), ids(38).slice(0, -1))
    await redis.xdel(`{${channel}}:history`, head.split('.')[2]!)
    assert.deepEqual((await newest(call, channel, 10, [100, 1e6], later)).slice(0, 4), ['', newHead, 40, 1])
    assert.equal((await newest(call, channel, 10, [100, 1e6], later)).length, 4)
  })

  test(`${way}: large entries are not looked through without end`, async () => {
    const call = make()
    const channel = newChannel()
    const large = JSON.stringify({ type: 'n', payload: 'x'.repeat(250_000) })
    for (let n = 1; n <= 20; n++) await publish(call, channel, large)
    const page = await newest(call, channel, 20, [1, 1e6])
    assert.deepEqual([page[2], page[3], page.length], [20, 0, 6])
    // A megabyte is four of these.
    assert.equal(positionOf(page[4]!)!.seq, 17)
  })

  test(`${way}: many are told at once where they stand`, async () => {
    const call = make()
    const [quiet, busy, other] = [newChannel(), newChannel(), newChannel()]
    const [first] = await publish(call, busy)
    const [second] = await publish(call, busy)
    const [start, zero, ...more] = await heads(call, [quiet, busy, quiet, other])
    assert.deepEqual(more.slice(0, 4), [second, 2, start, 0])
    assert.deepEqual([zero, more.at(-1)], [0, 0])
    assert.match(String(start), new RegExp(`^${SERVER}\\.0\\.\\d+-0$`))
    assert.ok(SERVER < first.split('.')[0]!)
    assert.deepEqual(await heads(call, []), [])
  })

  test(`${way}: a place before the first entry is good while nothing was published, and after`, async () => {
    const call = make()
    const channel = newChannel()
    const [start, seq] = (await heads(call, [channel])) as [string, number]
    assert.equal(seq, 0)
    assert.ok(isId(start))
    assert.deepEqual((await read(call, channel, start)).slice(2), [0, 1])
    const [id, , ,] = await publish(call, channel, envelope(1), 2)
    assert.deepEqual(await read(call, channel, start), ['', id, 1, 1, id, envelope(1)])
    for (let n = 2; n <= 3; n++) await publish(call, channel, envelope(n), 2)
    assert.equal((await read(call, channel, start))[0], 'history_trimmed')
    const old = start.replace(/\.(\d+)-0$/, (_, time) => `.${Number(time) - (DAY + 1) * 1000}-0`)
    assert.equal((await read(call, channel, old))[0], 'history_expired')
  })

  test(`${way}: a place before the first entry is none any more once the server went back, wherever the topic is then`, async () => {
    const call = make()
    const channel = newChannel()
    const [start] = (await heads(call, [channel])) as [string]
    await publish(call, channel)
    const later = `${(await publish(call, channel))[0].split('.')[0]!.replace(/.$/, 'z')}00`
    await heads(call, [channel], later)
    assert.equal((await read(call, channel, start, 100, 1e6, later))[0], 'history_replaced')
    // Another master, to which its slot has moved, never went back.
    assert.equal((await read(call, channel, start))[0], 'history_replaced')
    await publish(call, channel)
    assert.equal((await read(call, channel, start))[0], 'history_replaced')
  })

  test(`${way}: an id of a head that is gone is a gap, and so is one that has been passed again`, async () => {
    const call = make()
    const channel = newChannel()
    const before: string[] = []
    for (let n = 1; n <= 5; n++) before.push((await publish(call, channel, envelope(n)))[0])
    await redis.del(`{${channel}}:head`)
    assert.equal((await read(call, channel, before[2]!))[0], 'history_expired')
    for (let n = 1; n <= 7; n++) {
      const [, seq] = await publish(call, channel, envelope(n))
      assert.equal(seq, n)
      for (const since of before)
        assert.equal((await read(call, channel, since))[0], 'history_replaced', `${n} ${since}`)
    }
    assert.equal((await stream(channel)).length, 7)
  })

  test(`${way}: a clock that goes back breaks nothing`, async () => {
    const call = make()
    const channel = newChannel()
    const [first] = await publish(call, channel, envelope(1))
    const [timeline] = first.split('.')
    const future = Date.now() + 3_600_000
    // As if the clock had been an hour ahead when the last one was recorded.
    const id = `${timeline}.2.${future}-7`
    await redis.xadd(`{${channel}}:history`, `${future}-7`, 'i', id, 'p', first, 'e', envelope(2))
    await redis.hset(`{${channel}}:head`, 'id', id, 'seq', 2)
    const [third] = await publish(call, channel, envelope(3))
    assert.equal(third, `${timeline}.3.${future}-8`)
    const [fourth] = await publish(call, channel, envelope(4))
    assert.equal(fourth, `${timeline}.4.${future}-9`)
    assert.deepEqual(
      (await read(call, channel, first)).slice(4).filter((_, i) => i % 2 === 0),
      [id, third, fourth],
    )
  })

  test(`${way}: valid UTF-8 and nothing else is taken`, async () => {
    const call = make()
    const channel = newChannel()
    const byte = fc.oneof(
      fc.integer({ min: 0x80, max: 0xff }),
      fc.constantFrom(0x61, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5),
    )
    const bytes = fc.oneof(
      fc.uint8Array({ min: 0x80, max: 0xff, maxLength: 6 }).map(array => Buffer.from(array)),
      fc.array(byte, { maxLength: 8 }).map(array => Buffer.from(array)),
      fc.string({ unit: 'binary', maxLength: 6 }).map(text => Buffer.from(text.replace(/["\\\p{Cc}]/gu, ''))),
    )
    const property = fc.asyncProperty(bytes, async inside => {
      const text = Buffer.concat([Buffer.from('{"type":"n","payload":"'), inside, Buffer.from('"}')])
      const isTaken = await publish(call, channel, text).then(
        () => true,
        ({ message }: Error) => {
          assert.match(message, /^PUSH_ERR_JSON .*UTF-8/)
          return false
        },
      )
      assert.equal(isTaken, isUtf8(text))
    })
    await fc.assert(property, { numRuns: 500 })
  })

  test(`${way}: what a node can use is recorded`, async () => {
    const call = make()
    const channel = newChannel()
    const property = fc.asyncProperty(
      fc.record(
        {
          type: fc.stringMatching(/^[A-Za-z0-9_.:/-]{1,128}$/),
          payload: fc.jsonValue({ maxDepth: 5 }),
          seq: fc.nat(),
          except: fc.oneof(fc.constant('user:1'), fc.array(fc.constantFrom('user:2', 'connection:c'))),
          receipt: fc.constant('tok'),
          v: fc.constant(1),
          'x-trace': fc.jsonValue(),
          ext: fc.dictionary(fc.string(), fc.jsonValue()),
        },
        { requiredKeys: ['type'] },
      ),
      async value => {
        const text = JSON.stringify(value)
        if (decodeEnvelope(Buffer.from(text), 262_144).kind !== 'publication') return
        const [id] = await publish(call, channel, text)
        const kept = (await stream(channel)).at(-1)!
        assert.deepEqual([kept[1][1], kept[1][5]], [id, text])
      },
    )
    await fc.assert(property, { numRuns: 200 })
  })

  test(`${way}: the prefix is what stands before the topic`, async () => {
    const call = make()
    const name = fc.constantFrom('x', 'all', 'user:1', 'channel:all', 'connection:c', 'a:b', '-', '%d', 'xall')
    const topic = fc.oneof(
      fc.constant('all'),
      fc.tuple(fc.constantFrom('channel:', 'user:'), name).map(([kind, rest]) => kind + rest),
    )
    const prefix = fc.constantFrom('push:', 'p', 'all', 'all:', 'user', 'a:b:', 'channels:', '%w+:', 'x-users:', '.*')
    const property = fc.asyncProperty(prefix, topic, async (before, to) => {
      if (/(?:channel|user|connection):/.test(before)) return
      const [id] = await publish(call, before + to)
      assert.equal(await redis.hget(`{${before}${to}}:head`, 'id'), id, before + to)
    })
    await fc.assert(property, { numRuns: 100 })
  })

  test(`${way}: heads are compared`, async () => {
    const call = make()
    const channels = [newChannel(), newChannel(), newChannel(), newChannel()]
    const ids: string[] = []
    for (const channel of channels.slice(0, 3)) ids.push((await publish(call, channel))[0])
    ids.push(await headOf(call, channels[3]!))
    assert.deepEqual(await compare(call, channels, ids), [])
    const [newer] = await publish(call, channels[1]!)
    assert.deepEqual(await compare(call, channels, ids), [2])
    ids[1] = newer
    await redis.del(`{${channels[0]}}:head`)
    await publish(call, channels[3]!)
    assert.deepEqual(await compare(call, channels, ids), [1, 4])
    await redis.expire(`{${channels[2]}}:head`, 10)
    await compare(call, channels, ids)
    assert.ok((await redis.ttl(`{${channels[2]}}:head`)) > DAY, 'a head that is held lives on')
    assert.deepEqual(await compare(call, [], []), [])
  })
}

/** The place before the first entry of the history that `id` is of. */
function positionZero(id: string): string {
  return `${id.split('.')[0]}.0.${Date.now()}-0`
}

// ── timelines ────────────────────────────────────────────────────────────────────────────────────────────────────

interface Tick {
  /** The last tick that was answered, the next one, and the name that a new timeline would get. */
  known: Arg
  next: Arg
  name: string
  force?: string
  /** The timeline that the last tick was answered with, when that was, and what that clock should say now. */
  timeline?: string
  answered?: Arg
  elapsed?: Arg
  node?: string
}

type Ticked = [timeline: string, receivers: number, answered: string]

const keysOf = (prefix: string, node: string) => [`{${prefix}shard-0}:timeline`, `{${prefix}shard-0}:tick:${node}`]

async function fullTick(call: Call, prefix: string, of: Tick): Promise<Ticked> {
  const { known, next, name, force = '0', timeline = '', answered = '', elapsed = '', node = 'n1' } = of
  const args = [`${prefix}node:${node}`, known, next, name, force, timeline, answered, elapsed]
  return call('push_tick', keysOf(prefix, node), ...args) as Promise<Ticked>
}

/** The name of the timeline, without the time at which it began, and how many heard it. */
async function tick(call: Call, prefix: string, known: Arg, next: Arg, name: string, force = '0') {
  const [timeline, receivers] = await fullTick(call, prefix, { known, next, name, force })
  return [timeline.slice(13), receivers]
}

for (const [way, make] of Object.entries(ways)) {
  test(`${way}: a tick that comes late, over a link that was given up, is no rollback`, async () => {
    const call = make()
    const prefix = `late-${way}:`
    await tick(call, prefix, '', 1, 'a')
    await tick(call, prefix, 1, 3, 'b')
    await tick(call, prefix, 1, 2, 'c')
    assert.deepEqual(await tick(call, prefix, 3, 4, 'd'), ['', 0])
  })

  test(`${way}: a timeline that began while the clock was ahead hides no rollback`, async () => {
    const call = make()
    const prefix = `ahead-${way}:`
    const [timeline, number] = keysOf(prefix, 'n1') as [string, string]
    const now = Date.now() * 1000
    const ahead = now + 600_000_000
    await redis.hset(timeline, 'timeline', 'old', 'began', ahead)
    await redis.set(number, 2)
    const ask = async (known: string) =>
      (await fullTick(call, prefix, { known: 3, next: 4, name: 'new', answered: now, timeline: known }))[0]
    assert.equal(await ask('another'), 'old', 'another node has begun it for the same reason')
    await redis.set(number, 2)
    assert.match(await ask('old'), /new$/)
    assert.equal(Number(await redis.hget(timeline, 'began')), ahead + 1)
  })

  test(`${way}: a tick that Redis knows no more begins a new timeline`, async () => {
    const call = make()
    const prefix = `tick-${way}:`
    const [, number] = keysOf(prefix, 'n1') as [string, string]
    assert.deepEqual(await tick(call, prefix, '', 1, 'a'), ['', 0])
    assert.deepEqual(await tick(call, prefix, 1, 2, 'b'), ['', 0])
    // The answer to 3 was lost: Redis knows more than the node thinks.
    await tick(call, prefix, 2, 3, 'c')
    assert.deepEqual(await tick(call, prefix, 2, 4, 'd'), ['', 0])
    assert.equal(await redis.get(number), '4')
    assert.ok((await redis.ttl(number)) > 80_000)
    await redis.set(number, 3)
    assert.deepEqual(await tick(call, prefix, 4, 5, 'e'), ['e', 0])
    await redis.del(number)
    assert.deepEqual(await tick(call, prefix, 5, 6, 'f'), ['f', 0])
    await redis.del(number)
    assert.deepEqual(await tick(call, prefix, '', 1, 'g'), ['f', 0], 'a node that is new accuses nobody')
    assert.deepEqual(await tick(call, prefix, 1, 2, 'h', '1'), ['h', 0])
  })

  test(`${way}: several nodes that notice the same rollback begin one timeline, and one for the next`, async () => {
    const call = make()
    const prefix = `many-${way}:`
    const nodes = ['n1', 'n2', 'n3'].map(node => ({ node, known: 0, answered: '', timeline: '' }))
    const [key] = keysOf(prefix, '') as [string]
    const tickOf = async (of: (typeof nodes)[number], force = '0') => {
      const next = of.known + 1
      const named = { ...of, known: of.known || '', next, name: `${of.node}x${next}`, force }
      const [timeline, , answered] = await fullTick(call, prefix, named)
      Object.assign(of, { known: next, answered, timeline })
      return timeline.slice(13)
    }
    const all = async (force?: string) => {
      const timelines: string[] = []
      for (const node of nodes) timelines.push(await tickOf(node, force))
      return new Set(timelines)
    }
    assert.deepEqual(await all(), new Set(['']))
    const before = await redis.hgetall(key)
    assert.deepEqual(await all(), new Set(['']))
    const goBack = async (state: object) => {
      for (const { node } of nodes) await redis.del(keysOf(prefix, node)[1]!)
      await redis.del(key)
      await redis.hset(key, state)
    }
    await goBack(before)
    assert.deepEqual(await all(), new Set(['n1x3']))
    // Back to the first timeline again: it is not taken for one that began just now.
    await goBack(before)
    assert.deepEqual(await all(), new Set(['n1x4']))
    assert.deepEqual(await all('1'), new Set(['n1x5']), 'a promotion that all have noticed')
    await redis.flushall()
    await publish(call, `${prefix}channel:x`)
    assert.deepEqual(await all(), new Set(['n1x6']))
  })

  test(`${way}: timelines sort by time, also over a clock that is behind the one before`, async () => {
    const call = make()
    const prefix = `sort-${way}:`
    const [first, , answered] = await fullTick(call, prefix, { known: '', next: 1, name: 'ffffffff' })
    const [id] = await publish(call, `${prefix}channel:x`)
    const elapsed = Number(answered) + 5_000_000
    const of = { known: 2, next: 3, name: '00000000', timeline: first, answered, elapsed }
    const [second] = await fullTick(call, prefix, of)
    const own = id.split('.')[0]!
    assert.ok(first < own && own < second, `${first} ${own} ${second}`)
    assert.equal(second, `${elapsedName(elapsed)}00000000`)
  })

  test(`${way}: after a new timeline nobody goes on as if nothing were missing, and everybody can go on`, async () => {
    const call = make()
    const prefix = `line-${way}:`
    const channel = `${prefix}channel:x`
    const before: string[] = []
    const [server] = await fullTick(call, prefix, { known: '', next: 1, name: 'a' })
    for (let n = 1; n <= 3; n++) before.push((await publish(call, channel, envelope(n)))[0])
    const readAs = (timeline: string, of: string, since: string) => read(call, of, since, 100, 1e6, timeline)
    const start = String((await heads(call, [`${prefix}channel:quiet`], server))[0])
    assert.equal((await readAs(server, channel, before[2]!))[0], '')
    const [second] = await fullTick(call, prefix, { known: 2, next: 3, name: 'b' })
    const [head, seq] = (await heads(call, [channel], second)) as [string, number]
    assert.deepEqual([head, seq], [before[2]!.replace(/^\w+/, second), 3])
    // A node that does not know it yet does not bring the older one back.
    for (const timeline of [server, second]) {
      for (const since of before) {
        assert.deepEqual(await readAs(timeline, channel, since), ['history_replaced', head, 3, 1])
      }
      assert.deepEqual(await compare(call, [channel], [before[2]!], timeline), [1])
      assert.deepEqual(await compare(call, [channel], [head], timeline), [])
    }
    assert.equal((await readAs(second, `${prefix}channel:quiet`, start))[0], 'history_replaced')
    assert.deepEqual(await compare(call, [`${prefix}channel:quiet`], [start], second), [1])
    const [next] = await publish(call, channel, envelope(4))
    assert.equal(next.split('.').slice(0, 2).join(), `${second},4`)
    assert.deepEqual((await stream(channel)).at(-1)![1].slice(0, 4), ['i', next, 'p', head])
    assert.deepEqual(await readAs(second, channel, head), ['', next, 4, 1, next, envelope(4)])
    for (const since of before) assert.equal((await readAs(second, channel, since))[0], 'history_replaced')
  })

  test(`${way}: what was recorded first goes on from the position before it, unless Redis went back in between`, async () => {
    const call = make()
    const channel = newChannel()
    const [server] = await fullTick(call, 'first:', { known: '', next: 1, name: way })
    const [start] = (await heads(call, [channel], server)) as [string]
    const [id] = await publish(call, channel)
    assert.deepEqual(await read(call, channel, start, 100, 1e6, server), ['', id, 1, 1, id, envelope(1)])
    const [later] = await fullTick(call, 'first:', { known: '', next: 2, name: way, force: '1' })
    const renewed = id.replace(/^\w+/, later)
    assert.deepEqual(await read(call, channel, start, 100, 1e6, later), ['history_replaced', renewed, 1, 1])
    // By a node that does not know yet of what another one has told the client.
    const [newer] = (await heads(call, [newChannel()], later)) as [string]
    assert.equal((await read(call, newChannel(), newer, 100, 1e6, server))[0], 'history_replaced')
  })

  test(`${way}: a function touches the keys of its topic alone`, async t => {
    const own = await startRedis(t)
    await own.admin.call('FUNCTION', 'LOAD', SOURCE)
    const call = way === 'function' ? asFunction(own.admin) : asScript(own.admin)
    const channel = newChannel()
    await own.admin.config('SET', 'notify-keyspace-events', 'KEAm')
    const seen = new Set<string>()
    const listener = own.admin.duplicate()
    listener.on('pmessage', (_pattern, of: string) => seen.add(of.slice(of.indexOf(':') + 1)))
    await listener.psubscribe('__keyspace@0__:*')
    const [id] = await publish(call, channel, envelope(1), 100, 60, 'once')
    await heads(call, [channel])
    await read(call, channel, id)
    await compare(call, [channel], [id])
    await listener.ping()
    listener.disconnect()
    for (const key of seen) assert.ok(key.startsWith(`{${channel}}:`), key)
    assert.ok(seen.size >= 3)
  })
}

const elapsedName = (microseconds: number) =>
  Math.floor(microseconds / 1e6)
    .toString(16)
    .padStart(8, '0') + (microseconds % 1e6).toString(16).padStart(5, '0')

test('the limit of the nodes is the limit of what is recorded', async () => {
  const call = asFunction(redis)
  const [fresh, used] = [newChannel(), newChannel()]
  const large = envelope('x'.repeat(100))
  await publish(call, used, large)
  for (const channel of [fresh, used]) {
    await heads(call, [channel], SERVER, 100)
    await assert.rejects(publish(call, channel, large), /^ReplyError: PUSH_ERR_TOO_LARGE .* allows 100$/)
    await publish(call, channel, envelope('x'.repeat(50)))
    await heads(call, [channel], SERVER, 1000)
    await publish(call, channel, large)
  }
  await heads(call, [fresh], SERVER, MAX)
  assert.deepEqual(await redis.hmget(`{${fresh}}:head`, 'seq', 'max'), ['2', String(MAX)])
})

test('without a node that has told its limit it is the default, or what the publisher says', async () => {
  const call = asFunction(redis)
  const channel = newChannel()
  const large = envelope('x'.repeat(MAX))
  await assert.rejects(publish(call, channel, large), /^ReplyError: PUSH_ERR_TOO_LARGE .* allows 262144$/)
  await heads(call, [channel])
  assert.equal(await redis.exists(`{${channel}}:head`), 0, 'a topic on which nothing was recorded takes no memory')
  assert.equal((await publish(call, channel, large, 1, 1, '', 2 * MAX))[1], 1)
  assert.equal((await publish(call, channel, large, 1, 1, 'k', 2 * MAX))[3], 0)
  assert.equal((await publish(call, channel, large, 1, 1, 'k', 2 * MAX))[3], 1)
  await assert.rejects(
    publish(call, channel, envelope(1), 1, 1, 'j', 5),
    /^ReplyError: PUSH_ERR_TOO_LARGE .* allows 5$/,
  )
})

// ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────────

test('entries are as old as ttl at most, to the millisecond', async () => {
  const call = asScript(redis, CLOCKED)
  const channel = newChannel()
  const start = Date.now()
  const at = (ms: number) => redis.set('clock', start + ms)
  await at(0)
  const begin = await headOf(call, channel)
  const [first] = await publish(call, channel, envelope(1), 10, 60)
  await at(30_000)
  const [second] = await publish(call, channel, envelope(2), 10, 60)
  await at(60_000)
  assert.equal((await read(call, channel, begin)).length, 4 + 4)
  await at(60_001)
  assert.equal((await read(call, channel, begin))[0], 'history_expired')
  assert.deepEqual(await read(call, channel, first), ['', second, 2, 1, second, envelope(2)])
  await at(90_000)
  await publish(call, channel, envelope(3), 10, 60)
  assert.equal((await stream(channel)).length, 2)
  await at(90_001)
  await publish(call, channel, envelope(4), 10, 60)
  assert.equal((await stream(channel)).length, 2)
})

test('whatever the clock does, the ids of a stream grow and the chain holds', async () => {
  const call = asScript(redis, CLOCKED)
  const steps = fc.array(fc.integer({ min: -5000, max: 5000 }), { minLength: 1, maxLength: 30 })
  const property = fc.asyncProperty(steps, async moves => {
    const channel = newChannel()
    let now = Date.now()
    let previous = '-'
    for (const [i, move] of moves.entries()) {
      now += move
      await redis.set('clock', now)
      const [id, seq] = await publish(call, channel, envelope(i), 100, 3600)
      assert.equal(seq, i + 1)
      assert.equal((await stream(channel)).at(-1)![1][3], previous)
      previous = id
    }
    assert.equal((await stream(channel)).length, moves.length)
  })
  await fc.assert(property, { numRuns: 30 })
})

test('the start of a quiet topic stays good when it is asked for again', async () => {
  const call = asScript(redis, CLOCKED)
  const channel = newChannel()
  const now = Date.now()
  await redis.set('clock', now)
  let since = await headOf(call, channel)
  for (let hour = 0; hour < 100; hour += 12) {
    await redis.set('clock', now + hour * 3_600_000)
    const [reason, id] = await read(call, channel, since)
    assert.equal(reason, '', `after ${hour} hours`)
    since = id
  }
})

test('a history that begins anew within the same millisecond has other ids', async () => {
  const call = asScript(redis, CLOCKED)
  const channel = newChannel()
  const now = Date.now()
  await redis.set('clock', now)
  const before = [await publish(call, channel), await publish(call, channel)].map(([id]) => id)
  await redis.del(`{${channel}}:head`)
  await redis.set('clock', now + 0.025)
  const after = [await publish(call, channel), await publish(call, channel)].map(([id]) => id)
  assert.equal(new Set([...before, ...after]).size, 4)
  for (const since of before) assert.equal((await read(call, channel, since))[0], 'history_replaced')
})

// ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('a page of a history of large entries is not read from the whole of it', async t => {
  const own = await startRedis(t)
  await own.admin.call('FUNCTION', 'LOAD', SOURCE)
  const call = asFunction(own.admin)
  const text = envelope('x'.repeat(250_000))
  const pipeline = own.admin.pipeline()
  for (let n = 0; n < 300; n++) pipeline.call('FCALL', 'push_publish', 1, 'push:channel:big', text, 1000, 3600)
  await pipeline.exec()
  const id = await headOf(call, 'push:channel:big')
  /** The least of some times, in milliseconds: another program may have had the core meanwhile, though not each time. */
  const leastOf = async (bytes: number, entries: number) => {
    const times: number[] = []
    for (let attempt = 0; attempt < 5; attempt++) {
      await own.admin.call('CONFIG', 'RESETSTAT')
      const page = await read(call, 'push:channel:big', positionZero(id), 500, bytes)
      assert.equal(page.length, 4 + 2 * entries)
      const stats = await own.admin.info('commandstats')
      times.push(Number(/cmdstat_fcall:calls=1,usec=(\d+)/.exec(stats)![1]) / 1000)
    }
    return Math.min(...times)
  }
  const [page, whole] = [await leastOf(512 * 1024, 2), await leastOf(1e9, 300)]
  assert.ok(
    page < whole / 3,
    `Redis stood still for ${page} ms to give a page of 512 KiB, and for ${whole} to give all`,
  )
})

test('a Redis that is full refuses to record, and histories can be read on', async t => {
  const own = await startRedis(t, { args: ['--maxmemory-policy', 'noeviction'] })
  await own.admin.call('FUNCTION', 'LOAD', SOURCE)
  const call = asFunction(own.admin)
  const [first] = await publish(call, 'push:channel:x')
  const [second] = await publish(call, 'push:channel:x', envelope(2))
  await tick(call, 'push:', '', 1, 'a')
  await own.admin.config('SET', 'maxmemory', '1')
  await assert.rejects(publish(call, 'push:channel:x', envelope(3)), /OOM/)
  assert.deepEqual(await read(call, 'push:channel:x', first), ['', second, 2, 1, second, envelope(2)])
  assert.deepEqual(await compare(call, ['push:channel:x'], [second]), [])
  assert.deepEqual(await tick(call, 'push:', 1, 2, 'b'), ['', 0])
})

test('one who may not publish records nothing', async t => {
  const own = await startRedis(t)
  await own.admin.call('FUNCTION', 'LOAD', SOURCE)
  for (const rule of ['resetchannels', '-publish', '-xadd', '-xtrim', '-hset', '-expire']) {
    await own.admin.call('ACL', 'SETUSER', 'php', 'reset', 'on', 'nopass', '~*', '&*', '+@all')
    await own.admin.call('ACL', 'SETUSER', 'php', rule)
    const client = own.admin.duplicate({ username: 'php', password: 'x' })
    await assert.rejects(publish(asFunction(client), 'push:channel:x', envelope(1), 10, 60, 'k'), /NOPERM/, rule)
    client.disconnect()
    assert.deepEqual((await own.admin.keys('{push:*')).toSorted(), [], `${rule}: something was recorded`)
  }
})

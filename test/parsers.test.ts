import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { SignJWT } from 'jose'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { WebSocketServer } from 'ws'
import { parseRecorded } from '../src/broker/redis/history.ts'
import { PushReader } from '../src/broker/redis/push-reader.ts'
import { entriesOf, sentinelProblem } from '../src/broker/redis/sentinels.ts'
import { TopicCache } from '../src/broker/redis/topic-cache.ts'
import { mastersIn } from '../src/broker/redis/topology.ts'
import { clusterIn, toIoredis, urlProblem } from '../src/broker/redis/url.ts'
import { parse } from '../src/client/message.ts'
import { checkAuthentication } from '../src/node/authentication.ts'
import { tokenReader } from '../src/node/jwt.ts'
import { readSettings } from '../src/node/serve-settings.ts'
import { redeemTicket } from '../src/node/tickets.ts'
import { originProblem } from '../src/options/origin.ts'
import { parseOptions } from '../src/options/parse.ts'
import { isPushError } from '../src/protocol/errors.ts'
import { coversType, typePatternProblem } from '../src/protocol/event.ts'
import { closeProblem, encodeMessage, isReservedType, parseClientMessage } from '../src/protocol/messages.ts'
import { encodeId, isId, positionOf } from '../src/protocol/position.ts'
import { isPresenceDelta, looksLikeDelta } from '../src/protocol/presence-delta.ts'
import { ACTIONS, actionsOn, grantedActions, type Right, rightProblem } from '../src/protocol/rights.ts'
import { Slice } from '../src/protocol/slice.ts'
import { isTopic, matchesPattern, patternProblem } from '../src/protocol/topic.ts'
import { HistoryReader } from '../src/publish/history-page.ts'
import { compilePayloadCheck, SchemaTable } from '../src/publish/schemas.ts'
import { addressOf } from '../src/routes/addresses.ts'
import { keyFinder } from '../src/routes/api-keys.ts'
import { queryOf } from '../src/routes/api-query.ts'
import { API_ROUTES } from '../src/routes/api-routes.ts'
import { handshakeProblem } from '../src/routes/handshake.ts'
import { networkOf } from '../src/routes/networks.ts'
import { buildPush, KEY } from './helpers/app.ts'
import { PATIENCE, within } from './helpers/waiting.ts'

/**
 * What every parser promises, whatever it is given: it throws nothing but its own error, what it takes it takes whole, and
 * its bounds hold. Those of envelopes, positions, topics and RESP have properties of their own beside their tests.
 */

const text = fc.string({ unit: 'binary', maxLength: 40 })
const anything = fc.anything({ maxDepth: 2, withBigInt: true, withNullPrototype: true, withDate: true })
const pattern = fc
  .tuple(fc.constantFrom('channel:', 'user:', 'connection:', 'all', ''), fc.stringMatching(/^[a-c*.{ ]{0,6}$/))
  .map(parts => parts.join(''))

/** An object with some of these keys, each with a value of its own or with anything. */
const objectWith = (values: Record<string, fc.Arbitrary<unknown>>) =>
  fc.record(
    Object.fromEntries(
      Object.entries(values).map(([key, value]) => [key, fc.oneof({ weight: 3, arbitrary: value }, anything)]),
    ),
    { requiredKeys: [] },
  )

/** What `run` returns; undefined if it throws what it may throw. */
function unless<T>(isOwn: (error: unknown) => boolean, run: () => T): T | undefined {
  try {
    return run()
  } catch (error) {
    if (!isOwn(error)) throw error
    return undefined
  }
}

const isTypeError = (error: unknown) => error instanceof TypeError && error.message.length > 0
const hasCode = (code: string) => (error: unknown) => isPushError(error) && error.code === code

const action = fc.constantFrom(...ACTIONS, 'close', 'read')
const right = fc.oneof(
  pattern,
  anything,
  objectWith({
    topics: fc.oneof(pattern, fc.array(pattern, { maxLength: 3 })),
    actions: fc.array(fc.oneof({ weight: 5, arbitrary: action }, anything), { maxLength: 3 }),
  }),
)

test('rights: a value is one or has a reason, and what is one opens nothing that it does not name', () => {
  const property = fc.property(right, fc.constantFrom('channel:a', 'user:b', 'all'), (value, topic) => {
    const problem = rightProblem(value)
    if (problem !== undefined) return assert.ok(problem.length > 0 && problem.length < 400, problem)
    const granted = actionsOn([value as Right], topic as 'all')
    const { topics, actions } = typeof value === 'string' ? { topics: value, actions: ['subscribe'] } : (value as never)
    const covers = [topics].flat().some((it: string) => matchesPattern(it, topic))
    assert.deepEqual([...granted], covers ? actions : [])
  })
  fc.assert(property, { numRuns: 500 })
})

test('rights: an answer of authorize() grants known actions, or is a TypeError', () => {
  const answer = fc.oneof(anything, fc.array(action), fc.array(anything, { maxLength: 3 }))
  const property = fc.property(answer, value => {
    const granted = unless(isTypeError, () => grantedActions(value)) ?? []
    for (const it of granted) assert.ok(ACTIONS.includes(it), String(it))
  })
  fc.assert(property, { numRuns: 300 })
})

test('patterns: one that is taken covers a topic, and a topic is a pattern', () => {
  fc.assert(
    fc.property(fc.oneof(pattern, text, anything), value => {
      const problem = patternProblem(value)
      if (problem !== undefined) return assert.ok(problem.length > 0 && problem.length < 400)
      const topic = /^\*+$/.test(value as string) ? 'all' : (value as string).replaceAll('*', 'x')
      assert.ok(isTopic(topic) && matchesPattern(value as string, topic))
    }),
    { numRuns: 500 },
  )
})

test('patterns of types: one that is taken covers a type that clients may send, and none of the protocol', () => {
  const given = fc.oneof(text, fc.stringMatching(/^(push\.|ping|chat)?[a-c*.:]{0,6}$/))
  fc.assert(
    fc.property(given, fc.constantFrom('push.a', 'ping', 'welcome'), (value, reserved) => {
      const problem = typePatternProblem(value)
      if (problem !== undefined) return assert.ok(problem.length > 0 && problem.length < 1500)
      assert.equal(coversType([value], reserved), false)
      const type = value.replaceAll('*', 'x')
      assert.ok(isReservedType(type) || coversType([value], type), value)
    }),
    { numRuns: 500 },
  )
})

test('client messages: what a client writes is read as it was written, by either side', () => {
  const ref = fc.oneof(fc.maxSafeInteger(), fc.string({ maxLength: 64 }))
  fc.assert(
    fc.property(
      fc.stringMatching(/^[\w.:/-]{1,20}$/),
      fc.jsonValue(),
      fc.option(ref, { nil: undefined }),
      (type, payload, n) => {
        const written = encodeMessage(type, payload, n)
        const value = JSON.parse(JSON.stringify(payload))
        assert.deepEqual(parseClientMessage(written), { type, payload: value, ref: n })
        assert.deepEqual(parse(written), { type, payload: value, ...(n !== undefined && { ref: n }) })
      },
    ),
  )
})

test('the client: no text of a server throws, and only what has a type is a message', () => {
  fc.assert(
    fc.property(fc.oneof(text, fc.json()), given => {
      const message = parse(given)
      assert.ok(message === undefined || typeof message.type === 'string')
    }),
    { numRuns: 300 },
  )
})

test('closes: a code and a reason that are taken fit into a close frame', () => {
  const code = fc.oneof(fc.integer({ min: 0, max: 70_000 }), anything)
  fc.assert(
    fc.property(code, fc.oneof(fc.string({ unit: 'grapheme', maxLength: 140 }), anything), (given, reason) => {
      if (closeProblem(given, reason) !== undefined) return
      const n = given as number
      assert.ok(Number.isInteger(n) && n >= 1000 && n <= 4999 && ![1004, 1005, 1006, 1015].includes(n))
      assert.ok(Buffer.byteLength(reason as string) <= 123)
    }),
    { numRuns: 300 },
  )
})

const id = fc
  .tuple(fc.stringMatching(/^[0-9a-z]{1,32}$/), fc.nat(), fc.nat(), fc.nat())
  .map(([timeline, seq, time, n]) => encodeId(timeline, seq, `${time}-${n}`))

test('recorded publications: what Redis sends is read whole, and other bytes are none or as if they were', () => {
  const sent = fc.tuple(id, fc.oneof(id, fc.constant('-')), fc.uint8Array({ maxLength: 30 }), fc.nat(5), fc.nat(5))
  const property = fc.property(sent, ([name, previous, envelope, before, after]) => {
    const { seq } = positionOf(name)!
    const head = Buffer.from(`${name} ${seq} ${previous}\n`)
    const memory = Buffer.concat([Buffer.alloc(before, '{'), head, envelope, Buffer.alloc(after, '\n')])
    const recorded = parseRecorded(new Slice(memory, before, memory.length - after))!
    assert.deepEqual([recorded.position, recorded.previous], [{ id: name, seq }, previous])
    assert.ok(recorded.envelope.view().equals(envelope))
    // Any cut through the head leaves none.
    for (let end = 0; end < head.length; end++)
      assert.equal(parseRecorded(new Slice(memory, before, before + end)), undefined)
  })
  fc.assert(property, { numRuns: 50 })
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    text.map(Buffer.from),
    fc.constant(Buffer.from('a.1.1-1 1 -\n')),
  )
  fc.assert(
    fc.property(bytes, given => {
      const recorded = parseRecorded(new Slice(Buffer.from(given)))
      if (recorded) assert.ok(isId(recorded.position.id) && (recorded.previous === '-' || isId(recorded.previous)))
    }),
    { numRuns: 300 },
  )
})

test('changes of presence: looking at the first bytes says what parsing would, and no value throws', () => {
  const delta = { control: 'presence', epoch: 'a', version: 1, count: 0, anonymous: 0 }
  const changed = objectWith({
    epoch: fc.string(),
    version: fc.nat(),
    joined: fc.array(anything),
    left: fc.array(text),
  })
  fc.assert(
    fc.property(changed, fc.nat(3), (given, before) => {
      const value = { ...delta, ...given }
      if (isPresenceDelta(value)) assert.ok(Number.isInteger(value.version) && value.epoch.length > 0)
      const memory = Buffer.from(`${' '.repeat(before)}${JSON.stringify(delta)}`)
      assert.ok(looksLikeDelta(memory, before) && !looksLikeDelta(memory, before, before + 21))
      assert.equal(looksLikeDelta(memory, before + 1), false)
    }),
  )
})

/** Reads `chunks` and says what came; fails if more comes than was sent. */
function readResp(chunks: readonly Uint8Array[]): number {
  let passed = 0
  const reader = new PushReader(new TopicCache(''), {
    message(_topic, payload) {
      passed += payload.length
      assert.ok(payload.length >= 0)
    },
    unsubscribed: () => true,
    other(bytes) {
      passed += bytes.length
    },
  })
  for (const chunk of chunks) reader.write(Buffer.from(chunk))
  return passed
}

test('RESP: no bytes throw, none come twice, and none make the reader go back', () => {
  const part = fc.oneof(
    fc.constantFrom(
      '>3\r\n$7\r\nmessage\r\n$',
      '*3\r\n$8\r\nsmessage\r\n$',
      '*3\r\n$12\r\nsunsubscribe\r\n$',
      '*',
      '%',
      '$',
    ),
    fc.constantFrom('1\r\na\r\n', '-1\r\n', '\r\n', '0\r\n', '!!\r\n', '-', '99999999999\r\n', ' ', '3', '*1\r\n', ','),
    text,
  )
  const chunks = fc.array(
    fc.array(part, { maxLength: 8 }).map(parts => Buffer.from(parts.join(''))),
    { maxLength: 4 },
  )
  fc.assert(
    fc.property(chunks, given => {
      const sent = given.reduce((all, { length }) => all + length, 0)
      assert.ok(readResp(given) <= sent)
    }),
    { numRuns: 1000 },
  )
})

test('RESP: what is nested deeper than any answer of Redis is left to the decoder of the client', () => {
  const nested = Buffer.from('*1\r\n'.repeat(200_000))
  assert.equal(readResp([nested]), nested.length)
})

const WORDS = ['redis', 'rediss', 'valkey', 'redis+cluster', '+cluster', 'unix', '://', '/', ':', '@', ',', '?sharded=']
const url = fc.array(fc.oneof(fc.constantFrom(...WORDS, '%zz', '[::1]', 'true', '6379', 'u:p@'), text), {
  maxLength: 8,
})

test('URLs of Redis: one that is taken is one for ioredis, or the servers of a Cluster', () => {
  fc.assert(
    fc.property(url, parts => {
      const given = parts.join('')
      const problem = urlProblem(given)
      if (problem !== undefined) return assert.ok(problem.length > 0 && problem.length < 200)
      const urls = clusterIn(given)?.urls ?? [given]
      for (const it of urls) assert.match(toIoredis(it), /^(rediss?:\/\/|\/)/)
    }),
    { numRuns: 500 },
  )
})

test('Sentinels: a list has a problem, or all of it can be reached', () => {
  const place = fc.oneof(
    url.map(parts => parts.join('')),
    fc.constantFrom('10.0.0.1', 'redis://%zz@h', 'rediss://u:p%40@h:1/', '[::1]:26379', 'h:99999'),
    objectWith({ host: fc.string(), port: fc.integer() }),
    anything,
  )
  const given = objectWith({
    sentinels: fc.array(place, { maxLength: 3 }),
    name: fc.string(),
    role: fc.constant('master'),
  })
  fc.assert(
    fc.property(given, options => {
      const problem = sentinelProblem(options)
      if (problem !== undefined) return assert.ok(problem.length > 0 && problem.length < 400)
      const entries = entriesOf(options.sentinels as unknown[])
      assert.equal(entries.length, (options.sentinels as unknown[]).length)
      for (const { host, port } of entries) assert.ok(host.length > 0 && port > 0 && port <= 65535)
    }),
    { numRuns: 500 },
  )
})

test('CLUSTER SLOTS: whatever is answered, masters have slots that there are', () => {
  const master = fc.tuple(fc.constantFrom('h', '', null), fc.nat(70_000), fc.constantFrom('a', 'b', '__proto__'))
  const slot = fc.integer({ min: -1, max: 17_000 })
  const range = fc.oneof(
    { weight: 3, arbitrary: fc.tuple(slot, slot, fc.oneof({ weight: 3, arbitrary: master }, anything)) },
    anything,
  )
  fc.assert(
    fc.property(fc.oneof(fc.array(range, { maxLength: 4 }), anything), reply => {
      for (const { id: name, host, port, slots } of mastersIn(reply, { host: 'asked' })) {
        assert.ok(name.length > 0 && host.length > 0 && port >= 0 && port <= 65535)
        for (const [first, last] of slots) assert.ok(0 <= first && first <= last && last < 16_384)
      }
    }),
    { numRuns: 500 },
  )
})

test('addresses: whatever a proxy writes is counted under a short name, and an address under an address', () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6(), text)
  fc.assert(
    fc.property(ip, fc.option(fc.array(ip, { minLength: 1, maxLength: 3 }), { nil: undefined }), (peer, ips) => {
      const address = addressOf({ ip: peer, ips } as Parameters<typeof addressOf>[0])
      assert.ok(address === undefined || address.length < 30)
      const network = networkOf(peer)
      assert.ok(network === 'unknown' || isIP(network.replace('/64', '')) > 0, network)
      assert.equal(networkOf(network.replace('/64', '')), network)
    }),
    { numRuns: 300 },
  )
})

test('parameters of a URL: each is taken once and as it was sent, or refused with a code', () => {
  const name = fc.constantFrom('topic', 'last', 'tpoic', '__proto__', 'toString')
  const given = fc.array(fc.tuple(name, text), { maxLength: 4 })
  const isOwn = (error: unknown) => hasCode('PUSH_ERR_UNKNOWN_KEY')(error) || hasCode('PUSH_ERR_FIELD')(error)
  const property = fc.property(given, fc.boolean(), (pairs, isStrict) => {
    const query = pairs.map(([key, value]) => `${key}=${encodeURIComponent(Buffer.from(value).toString())}`).join('&')
    const read = unless(isOwn, () => queryOf(`/push?${query}`, ['topic', 'last'], { isStrict }))
    for (const [key, value] of Object.entries(read ?? {})) {
      const values = pairs.filter(pair => pair[0] === key).map(pair => Buffer.from(pair[1]).toString())
      assert.deepEqual(values, [value])
    }
  })
  fc.assert(property, { numRuns: 300 })
  fc.assert(fc.property(text, any => void unless(isOwn, () => queryOf(any, ['topic'], { isStrict: true }))))
})

test('handshakes: what we let pass `ws` takes, and what we refuse it refuses', async () => {
  const server = new WebSocketServer({ noServer: true })
  const headers = fc.record(
    {
      upgrade: fc.constantFrom('websocket', 'WebSocket', 'h2c', 'websocket, x'),
      'sec-websocket-key': fc.oneof(
        fc.constantFrom('MDEyMzQ1Njc4OWFiY2RlZg==', 'x', ''),
        fc.base64String({ minLength: 24, maxLength: 24 }),
      ),
      'sec-websocket-version': fc.constantFrom('13', '8', '14', ''),
      'sec-websocket-protocol': fc.oneof(
        fc.constantFrom('a', 'a, b', 'a,a', 'a,', ',', 'push.json'),
        // Node takes the blanks off both ends of a value; `ws` refuses them.
        fc.string({ maxLength: 6 }).map(it => it.trim()),
      ),
    },
    { requiredKeys: ['upgrade', 'sec-websocket-key', 'sec-websocket-version'] },
  )
  const property = fc.asyncProperty(headers, async given => {
    const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
    let isOpen = false
    const request = { method: 'GET', url: '/ws', headers: given, socket } as never
    server.handleUpgrade(request, socket, Buffer.alloc(0), peer => {
      isOpen = true
      peer.terminate()
    })
    assert.equal(handshakeProblem(given) === undefined, isOpen, JSON.stringify(given))
    socket.destroy()
  })
  await within(fc.assert(property, { numRuns: 200 }), 'the handshakes')
  server.close()
})

test('handshakes: many blanks between the names of subprotocols cost no more than any other letters', () => {
  const headers = {
    upgrade: 'websocket',
    'sec-websocket-key': 'MDEyMzQ1Njc4OWFiY2RlZg==',
    'sec-websocket-version': '13',
    // By the square of their number these would take minutes.
    'sec-websocket-protocol': `a${' '.repeat(1_000_000)}b`,
  }
  const began = performance.now()
  assert.match(handshakeProblem(headers) ?? '', /Sec-WebSocket-Protocol/)
  assert.ok(performance.now() - began < PATIENCE)
})

test('histories: a query is answered or refused with a code, and no broker sees what is not allowed', async () => {
  const asked: [since: string, count: number][] = []
  const head = { id: 'a.1.1-1', seq: 1 }
  const broker = {
    history: async (_topic: string, since: string, { count }: { count: number }) => {
      asked.push([since, count])
      return { head, entries: [], isComplete: true }
    },
  }
  const reader = new HistoryReader(broker as never, new SchemaTable({}), 1000)
  const query = fc.oneof(
    objectWith({ since: fc.oneof(text, id), last: fc.integer(), limit: fc.integer({ min: 0, max: 200 }) }),
    anything,
  )
  const property = fc.asyncProperty(fc.oneof(pattern, anything), query, async (topic, given) => {
    await reader.read(topic, given as never).catch(error => assert.ok(isPushError(error), String(error)))
    for (const [since, count] of asked.splice(0)) {
      assert.ok(count >= 1 && count <= 100)
      assert.ok(isId(since) || since === 'none' || /^-([1-9]\d?|100)$/.test(since), since)
    }
  })
  await within(fc.assert(property, { numRuns: 300 }), 'the histories')
})

test('schemas: the compiled check says what the slow one says, and throws for nothing', () => {
  const schema = Type.Object(
    { id: Type.Integer(), tags: Type.Optional(Type.Array(Type.String({ maxLength: 3 }))) },
    { additionalProperties: false },
  )
  const check = compilePayloadCheck('test', schema)
  const value = fc.oneof(
    objectWith({ id: fc.integer(), tags: fc.array(fc.string({ maxLength: 4 })) }),
    fc.jsonValue(),
    anything,
  )
  fc.assert(
    fc.property(value, payload => {
      assert.equal(check(payload) === undefined, Value.Check(schema, payload))
    }),
    { numRuns: 300 },
  )
})

const identity = {
  user: fc.oneof(text, fc.integer()),
  join: fc.array(pattern, { maxLength: 2 }),
  allow: fc.array(right, { maxLength: 2 }),
  data: fc.jsonValue(),
  info: fc.jsonValue(),
  expires: fc.oneof(fc.date(), fc.integer({ min: 0, max: 2 ** 44 }), fc.constant(Number.POSITIVE_INFINITY)),
  issuedAt: fc.integer({ min: 0, max: 2 ** 44 }),
}

test('identities: what authenticate() gives becomes one, or is a TypeError', () => {
  const property = fc.property(fc.oneof(objectWith(identity), anything), given => {
    const read = unless(isTypeError, () => checkAuthentication(given, 'authenticate()'))
    if (!read) return
    const { user, allow, info } = read.identity
    assert.ok(user === null || isTopic(`user:${user}`))
    assert.ok(Buffer.byteLength(info) <= 1024)
    for (const it of allow) assert.equal(rightProblem(it), undefined)
    for (const topic of read.topics) assert.equal(isTopic(topic), true)
  })
  fc.assert(property, { numRuns: 500 })
})

test('tickets: whatever stands in Redis lets somebody in, or is refused with one code', async () => {
  const stored = fc.oneof(
    text,
    fc.json(),
    objectWith(identity).map(it => JSON.stringify(it, (_, v) => (typeof v === 'bigint' ? 1 : v))),
  )
  const property = fc.asyncProperty(fc.oneof(text, fc.constant('0123456789abcdef')), stored, async (ticket, found) => {
    const broker = { takeTicket: async () => found ?? '' }
    const refused = await redeemTicket(broker, ticket).then(
      () => undefined,
      error => error,
    )
    assert.ok(refused === undefined || hasCode('PUSH_ERR_UNAUTHENTICATED')(refused), String(refused))
  })
  await within(fc.assert(property, { numRuns: 300 }), 'the tickets')
})

test('tokens: only one that is signed lets somebody in, and every other is refused with one code', async () => {
  const secret = 'secret of the properties of tokens'
  const read = await tokenReader({ secret, claim: 'push' })
  const claims = objectWith({
    sub: text,
    exp: fc.constantFrom(4_102_444_800, 1, -1),
    iat: fc.integer(),
    push: objectWith(identity),
  })
  const broken = fc.record({ at: fc.nat(400), flip: fc.constantFrom(0, 0, 1) })
  const property = fc.asyncProperty(claims, broken, async (payload, { at, flip }) => {
    const plain = JSON.parse(JSON.stringify(payload, (_, v) => (typeof v === 'bigint' ? 1 : v)))
    const signed = await new SignJWT(plain).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret))
    const i = at % (signed.length - 1)
    const token = flip ? `${signed.slice(0, i)}${signed[i] === 'A' ? 'B' : 'A'}${signed.slice(i + 1)}` : signed
    const given = await read(token).catch(error => {
      assert.ok(hasCode('PUSH_ERR_UNAUTHENTICATED')(error), String(error))
    })
    if (given) assert.ok(!flip && given.user === plain.sub)
  })
  await within(fc.assert(property, { numRuns: 100 }), 'the tokens')
  const nonsense = fc.asyncProperty(
    fc.oneof(
      anything,
      text.map(it => `${it}.${it}.${it}`),
    ),
    async token => {
      await assert.rejects(read(token), { code: 'PUSH_ERR_UNAUTHENTICATED' })
    },
  )
  await within(fc.assert(nonsense), 'the nonsense')
})

test('keys: only the whole key opens, whatever stands in the headers', () => {
  const find = keyFinder([KEY])
  const value = fc.oneof(
    text,
    fc.constantFrom(`Bearer ${KEY}`, `bearer  ${KEY}`, KEY, `Bearer ${KEY.slice(1)}`, `Basic ${KEY}`),
  )
  fc.assert(
    fc.property(fc.record({ authorization: value, 'x-push-key': value }, { requiredKeys: [] }), headers => {
      const isRight =
        /^bearer +/i.test(headers.authorization ?? '') && headers.authorization!.replace(/^bearer +/i, '') === KEY
      assert.equal(find({ headers } as never).length > 0, isRight || headers['x-push-key'] === KEY)
    }),
    { numRuns: 300 },
  )
})

test('the push API: whatever comes is answered with a status below 500, or 503', async t => {
  const { app } = await buildPush(t, { api: { keys: [KEY], rate: 1e9 }, presence: { users: true }, tickets: true })
  const fields = {
    to: pattern,
    type: text,
    payload: fc.jsonValue(),
    topic: pattern,
    target: pattern,
    user: text,
    history: anything,
  }
  const body = fc.oneof(
    objectWith({ ...fields, ttl: fc.integer(), allow: fc.array(right) }),
    fc.array(objectWith(fields), { maxLength: 2 }),
    fc.jsonValue(),
  )
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' }
  const check = async (request: { method: 'GET' | 'POST'; url: string; payload?: string }) => {
    const { statusCode, json } = await app.inject({ ...request, headers })
    assert.ok(statusCode === 200 || (statusCode >= 400 && statusCode < 500), `${statusCode} ${JSON.stringify(request)}`)
    if (statusCode !== 200) assert.match(json().code, /^PUSH_ERR_/)
  }
  const pathOf = (method: string) =>
    fc.constantFrom(...API_ROUTES.filter(route => route.method === method).map(({ path }) => path))
  const posts = fc.asyncProperty(pathOf('POST'), body, async (below, given) => {
    const payload = JSON.stringify(given, (_, v) => (typeof v === 'bigint' ? 1 : v)) ?? 'null'
    await check({ method: 'POST', url: `/push${below}`, payload })
  })
  await within(fc.assert(posts, { numRuns: 100 }), 'the requests with a body')
  const number = fc.oneof(fc.integer({ min: -2, max: 200 }).map(String), text)
  const names = ['topic', 'user', 'count', 'cursor', 'since', 'last', 'limit', 'samples', 'topics'] as const
  const value = fc.oneof(pattern, number, fc.constantFrom('true', 'false', '0'))
  const query = fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 3 })
  const gets = fc.asyncProperty(pathOf('GET'), query, async (below, given) => {
    await check({ method: 'GET', url: `/push${below}?${new URLSearchParams(given)}` })
  })
  await within(fc.assert(gets, { numRuns: 200 }), 'the requests with parameters')
})

test('options: any are taken, or refused by PUSH_ERR_OPTIONS with a text that is not long', () => {
  const given = objectWith({
    path: fc.constant('/ws'),
    redis: fc.oneof(
      url.map(parts => parts.join('')),
      fc.boolean(),
    ),
    origins: fc.array(fc.oneof(text, fc.webUrl())),
    history: fc.dictionary(pattern, fc.record({ size: fc.integer(), ttl: fc.integer() })),
    presence: fc.dictionary(pattern, fc.oneof(fc.boolean(), objectWith({ info: fc.boolean() }))),
    compression: objectWith({ threshold: fc.integer(), level: fc.nat(10) }),
    limits: objectWith({ inbound: fc.integer(), pending: fc.integer() }),
    schemas: fc.dictionary(text, anything),
    handlers: fc.dictionary(
      text,
      objectWith({
        schema: anything,
        handler: fc.func(anything),
        worker: fc.oneof(text, fc.constantFrom(new URL('file://h/x'), new URL('file:///a%2Fb'), new URL('http://h'))),
      }),
    ),
    clientPublications: fc.dictionary(text, objectWith({ schema: anything, rate: fc.integer() })),
    api: objectWith({
      path: text,
      keys: fc.array(fc.oneof(text, objectWith({ key: text, topics: pattern, actions: fc.array(action) }))),
    }),
    events: anything,
    metrics: anything,
    health: anything,
  }).map(it => ({ path: '/ws', ...it }))
  fc.assert(
    fc.property(given, options => {
      const parsed = unless(hasCode('PUSH_ERR_OPTIONS'), () => parseOptions(options))
      if (parsed) assert.ok(parsed.limits.inbound >= 1 && parsed.path.startsWith('/'))
    }),
    { numRuns: 40 },
  )
})

test('origins: one that is taken is what a browser sends', () => {
  fc.assert(
    fc.property(
      fc.oneof(text, fc.webUrl(), fc.constantFrom('*', 'https://a.example', 'HTTP://A', 'http://a:80')),
      origin => {
        if (originProblem(origin) === undefined && /^https?:/.test(origin)) assert.equal(new URL(origin).origin, origin)
      },
    ),
    { numRuns: 300 },
  )
})

test('serve: flags and environment are settings, or an error with a sentence', () => {
  const flag = fc.constantFrom(
    '--port',
    '--host',
    '--path',
    '--handshake',
    '--presence',
    '--redis',
    '--api-key',
    '--dev',
    '--nothing',
  )
  const names = [
    'PORT',
    'REDIS_URL',
    'REDIS_SENTINELS',
    'REDIS_MASTER',
    'PRESENCE',
    'JWT_SECRET',
    'JWT_PUBLIC_KEY',
    'JWT_JWKS_URL',
  ]
  const value = fc.oneof(
    text,
    fc.constantFrom('8080', '-1', '1e3', '{}', 'redis://h', 'h:1,%zz@h:2', 'redis://%zz@h:1'),
  )
  const env = fc.dictionary(fc.constantFrom(...names, 'PUSH_EVENTS', 'METRICS', 'HANDSHAKE'), value, { maxKeys: 4 })
  const isOwn = (error: unknown) => {
    const { name, code, message } = error as Error & { code?: string }
    return message.length > 0 && (name === 'Error' || /^(ERR_PARSE_ARGS|PUSH_ERR_OPTIONS)/.test(code ?? ''))
  }
  const property = fc.property(fc.array(fc.oneof(flag, value), { maxLength: 4 }), env, (args, given) => {
    const settings = unless(isOwn, () => readSettings(['serve', ...args], given))
    if (settings && settings !== 'help')
      assert.ok(settings.port >= 0 && settings.port <= 65535 && settings.handshake >= 1)
  })
  fc.assert(property, { numRuns: 300 })
})

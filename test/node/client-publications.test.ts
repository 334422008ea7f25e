import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Type } from 'typebox'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { TestMessage } from '../../src/testing.ts'
import { buildPush, openConnection, type TestApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE, until, within } from '../helpers/waiting.ts'

const RULE = { size: 100, ttl: 60 }
const Text = Type.Object({ text: Type.String({ maxLength: 1000 }) }, { additionalProperties: false })

/** Rooms in which everybody may talk, of which some are recorded; elsewhere nobody may. */
const CHAT = {
  clientPublications: {
    'chat.message': { schema: Text, rate: 1000 },
    'chat.typing': { schema: Type.Object({}), rate: 1 },
  },
  history: { 'channel:kept*': RULE },
  authenticate: request => {
    const { user } = request.query as { user?: string }
    const rooms = ['channel:room*', 'channel:kept*']
    const allow = ['channel:*', { topics: rooms, actions: ['subscribe', 'publish'] as const }]
    return { allow, ...(user !== undefined && { user }) }
  },
} satisfies Partial<PushBridgeOptions>

type MakeApp = (t: TestContext, options?: Partial<PushBridgeOptions>) => Promise<TestApp>

const onMemory: MakeApp = (t, options) => buildPush(t, { ...CHAT, ...options })
const onRedis: MakeApp = async (t, options) => {
  const redis = await startRedis(t)
  return buildPush(t, { ...CHAT, redis: redis.url, publishTimeout: PATIENCE, ...options })
}

type Connection = Awaited<ReturnType<typeof openConnection>>

let refs = 0

/** Publishes and gives the answer. */
async function publish(connection: Connection, payload: object): Promise<TestMessage> {
  const ref = ++refs
  connection.send('push.publish', payload, ref)
  for (;;) {
    const answer = await connection.next()
    if (answer.ref === ref) return answer
  }
}

const said = (text: string, topic = 'channel:room', more: object = {}) => ({
  topic,
  type: 'chat.message',
  payload: { text },
  ...more,
})

const codeOf = ({ type, payload }: TestMessage) => (type === 'error' ? (payload as { code: string }).code : type)

for (const [name, make] of Object.entries({ memory: onMemory, redis: onRedis })) {
  test(`${name}: everybody on the topic gets it, with the user in whose name it was published`, async t => {
    const { app } = await make(t)
    const [ann, ben, nobody] = await Promise.all(
      ['?user=ann', '?user=ben', ''].map(query => openConnection(app, `/ws/room${query}`)),
    )
    ann!.send('push.publish', said('hi'), 1)
    const message = { type: 'chat.message', payload: { text: 'hi' }, topic: 'channel:room', from: { user: 'ann' } }
    for (const connection of [ann, ben, nobody]) assert.deepEqual(await connection!.next('chat.message'), message)
    const answer = await ann!.next('push.published')
    assert.deepEqual(answer, { type: 'push.published', payload: { topic: 'channel:room' }, ref: 1 })
    nobody!.send('push.publish', said('me too'))
    const anonymous = await ben!.next('chat.message')
    assert.deepEqual([anonymous.payload, anonymous.from], [{ text: 'me too' }, { user: null }])
    assert.equal((await app.push.status()).metrics.client_publications_total, 2)
  })

  test(`${name}: a recorded topic keeps it with its publisher, for whoever comes back`, async t => {
    const { app } = await make(t)
    const ann = await openConnection(app, '/ws/kept?user=ann')
    const first = await publish(ann, said('1', 'channel:kept'))
    const { id, seq, topic } = first.payload as { id: string; seq: number; topic: string }
    assert.deepEqual([first.type, topic, seq], ['push.published', 'channel:kept', 1])
    await publish(ann, said('2', 'channel:kept', { echo: false }))
    const ben = await openConnection(app, '/ws?user=ben')
    ben.send('subscribe', { topic: 'channel:kept', since: id }, 1)
    const missed = await ben.next('chat.message')
    assert.deepEqual([missed.payload, missed.from, missed.seq], [{ text: '2' }, { user: 'ann' }, 2])
  })

  test(`${name}: a key makes a repeat harmless, and users do not share keys`, async t => {
    const { app } = await make(t)
    const [ann, again, ben] = await Promise.all(
      ['ann', 'ann', 'ben'].map(user => openConnection(app, `/ws/kept?user=${user}`)),
    )
    const seqOf = async (connection: Connection, text: string) => {
      const { payload } = await publish(connection, said(text, 'channel:kept', { key: 'k' }))
      return (payload as { seq: number }).seq
    }
    assert.deepEqual([await seqOf(ann!, '1'), await seqOf(again!, '1'), await seqOf(ben!, '2')], [1, 1, 2])
    const anonymous = await Promise.all(['', ''].map(() => openConnection(app, '/ws/kept')))
    assert.deepEqual([await seqOf(anonymous[0]!, '3'), await seqOf(anonymous[1]!, '4')], [3, 4])
    assert.equal(await seqOf(anonymous[1]!, '5'), 4)
    assert.equal(codeOf(await publish(ann!, said('x', 'channel:room', { key: 'k' }))), 'PUSH_ERR_FORBIDDEN')
    ann!.send('subscribe', { topic: 'channel:room' })
    assert.equal(codeOf(await publish(ann!, said('x', 'channel:room', { key: 'k' }))), 'PUSH_ERR_FIELD')
  })

  test(`${name}: without echo everybody but this connection gets it`, async t => {
    const { app } = await make(t)
    const [phone, laptop] = await Promise.all([1, 2].map(() => openConnection(app, '/ws/room?user=ann')))
    phone!.send('push.publish', said('1', 'channel:room', { echo: false }))
    phone!.send('push.publish', said('2', 'channel:room', { echo: true }))
    for (const text of ['1', '2']) assert.deepEqual((await laptop!.next('chat.message')).payload, { text })
    assert.deepEqual((await phone!.next('chat.message')).payload, { text: '2' })
  })

  test(`${name}: what a client publishes in a row arrives in order, however long authorize() thinks`, async t => {
    const waiting: (() => void)[] = []
    const { app } = await make(t, {
      async authorize(_connection, topic, { action }) {
        if (action === 'publish') await new Promise<void>(resolve => waiting.push(resolve))
        return topic.startsWith('channel:r') ? ['subscribe', 'publish'] : true
      },
    })
    const connection = await openConnection(app, '/ws')
    const { welcome } = connection
    assert.ok(welcome.features.includes('publish'))
    connection.send('subscribe', { topic: 'channel:room' }, 'sub')
    await connection.next('subscribed')
    for (let n = 0; n < 20; n++) connection.send('push.publish', said(`${n}`))
    for (let n = 0; n < 20; n++) {
      await until(() => waiting.length > 0, `authorize() is asked about ${n}`)
      assert.equal(waiting.length, 1, 'one after the other')
      waiting.shift()!()
      assert.deepEqual((await connection.next('chat.message')).payload, { text: `${n}` })
    }
  })
}

const REFUSED: [what: string, payload: unknown, code: string, message: RegExp][] = [
  ['a topic that it does not have', said('x', 'channel:room2'), 'PUSH_ERR_FORBIDDEN', /does not have channel:room2/],
  ['a topic without the action', said('x', 'channel:quiet'), 'PUSH_ERR_FORBIDDEN', /grants? subscribe|not among/],
  ['its user topic', said('x', 'user:ann'), 'PUSH_ERR_FORBIDDEN', /user:ann is not among the topics/],
  ['everybody', said('x', 'all'), 'PUSH_ERR_FORBIDDEN', /all is not among the topics/],
  ['another user', said('x', 'user:ben'), 'PUSH_ERR_FORBIDDEN', /does not have user:ben/],
  ['no topic', said('x', 'room'), 'PUSH_ERR_TOPIC', /^payload\.topic: "room" is no topic/],
  ['no topic at all', { type: 'chat.message' }, 'PUSH_ERR_TOPIC', /a topic is a string/],
  ['no payload object', 7, 'PUSH_ERR_TOPIC', /a topic is a string/],
  ['no type', { topic: 'channel:room' }, 'PUSH_ERR_BAD_MESSAGE', /payload\.type is not a string/],
  ['another type', { ...said('x'), type: 'order' }, 'PUSH_ERR_FORBIDDEN', /clients may not publish "order"/],
  ['a reserved type', { ...said('x'), type: 'welcome' }, 'PUSH_ERR_FORBIDDEN', /clients may not publish "welcome"/],
  ['a type of every object', { ...said('x'), type: 'constructor' }, 'PUSH_ERR_FORBIDDEN', /"constructor"/],
  ['a long type', { ...said('x'), type: 'x'.repeat(9999) }, 'PUSH_ERR_FORBIDDEN', /^.{0,200}$/],
  ['a wrong payload', { ...said('x'), payload: { txet: 1 } }, 'PUSH_ERR_SCHEMA', /required properties text/],
  ['no payload', { topic: 'channel:room', type: 'chat.message' }, 'PUSH_ERR_SCHEMA', /required properties text/],
  ['the name of another', { ...said('x'), from: { user: 'ben' } }, 'PUSH_ERR_BAD_MESSAGE', /unknown key "from"/],
  ['a list to skip', { ...said('x'), except: 'user:ben' }, 'PUSH_ERR_BAD_MESSAGE', /unknown key "except"/],
  ['an echo', { ...said('x'), echo: 1 }, 'PUSH_ERR_BAD_MESSAGE', /payload\.echo is neither/],
  ['an empty key', { ...said('x'), key: '' }, 'PUSH_ERR_BAD_MESSAGE', /payload\.key is not/],
  ['a long key', { ...said('x'), key: 'k'.repeat(201) }, 'PUSH_ERR_BAD_MESSAGE', /payload\.key is not/],
  ['a key that is none', { ...said('x'), key: {} }, 'PUSH_ERR_BAD_MESSAGE', /payload\.key is not/],
]

test('what a client may not publish is refused by code, and reaches nobody', async t => {
  const { app } = await onMemory(t)
  const connection = await openConnection(app, '/ws/room?user=ann')
  connection.send('subscribe', { topic: 'channel:quiet' }, 'q')
  await connection.next('subscribed')
  for (const [what, payload, code, message] of REFUSED) {
    const answer = await publish(connection, payload as object)
    assert.equal(codeOf(answer), code, `${what}: ${JSON.stringify(answer.payload)}`)
    assert.match((answer.payload as { message: string }).message, message, what)
  }
  assert.equal((await app.push.status()).metrics.client_publications_total, undefined)
  const [answer] = await Promise.all([publish(connection, said('after all that'))])
  assert.equal(codeOf(answer), 'push.published')
})

test('true grants nothing new, and without the option nobody publishes anything', async t => {
  const { app } = await onMemory(t, { authorize: () => true })
  const connection = await openConnection(app, '/ws/room?user=ann')
  const answer = await publish(connection, said('x'))
  assert.match(
    (answer.payload as { message: string }).message,
    /authorize\(\) grants subscribe on channel:room, not publish/,
  )
  const { app: silent } = await buildPush(t, { authorize: () => ['subscribe', 'publish'] })
  const other = await openConnection(silent, '/ws/room')
  assert.equal(codeOf(await publish(other, said('x'))), 'PUSH_ERR_FORBIDDEN')
  assert.ok(!other.welcome.features.includes('publish'))
})

test('the schemas of the option schemas hold for clients too, and the size of publications', async t => {
  const schemas = { 'chat.message': Type.Object({ text: Type.String({ minLength: 2 }) }) }
  const { app } = await onMemory(t, { schemas, limits: { publication: 200 } })
  const connection = await openConnection(app, '/ws/room?user=ann')
  assert.equal(codeOf(await publish(connection, said('x'))), 'PUSH_ERR_SCHEMA')
  assert.equal(codeOf(await publish(connection, said('x'.repeat(300)))), 'PUSH_ERR_TOO_LARGE')
  assert.equal(codeOf(await publish(connection, said('xx'))), 'push.published')
})

test('each type has a rate of its own, in a burst twice as much; more is an error and closes nothing', async t => {
  const { app } = await onMemory(t)
  const [connection, other] = await Promise.all([1, 2].map(() => openConnection(app, '/ws/room?user=ann')))
  const typing = { topic: 'channel:room', type: 'chat.typing', echo: false }
  const answers: TestMessage[] = []
  for (let n = 0; n < 30; n++) connection!.send('push.publish', typing, n)
  while (answers.length < 30) answers.push(await connection!.next())
  assert.ok(answers.filter(answer => codeOf(answer) === 'push.published').length >= 2)
  const refused = answers.find(answer => codeOf(answer) === 'PUSH_ERR_LIMIT')
  assert.match(JSON.stringify(refused?.payload), /more than 1 publications of the type/)
  assert.equal(codeOf(await publish(connection!, said('still here'))), 'push.published')
  assert.equal(codeOf(await publish(other!, typing)), 'push.published')
})

test('whoever is told to leave while authorize() thinks publishes nothing, and neither does who has left the topic', async t => {
  let think = () => {}
  const asked: string[] = []
  const { app } = await onMemory(t, {
    async authorize({ user }, _topic, { action }) {
      if (action === 'publish' && user !== 'ben') {
        asked.push(user!)
        await new Promise<void>(resolve => {
          think = resolve
        })
      }
      return ['subscribe', 'publish']
    },
  })
  const ben = await openConnection(app, '/ws/room?user=ben')
  const ann = await openConnection(app, '/ws/room?user=ann')
  ann.send('push.publish', said('last words'))
  await until(() => asked.length === 1, 'authorize() is asked')
  await app.push.close('user:ann', 4403, 'out')
  await ann.closed
  think()
  const cat = await openConnection(app, '/ws/room?user=cat')
  cat.send('push.publish', said('from outside'), 1)
  await until(() => asked.length === 2, 'authorize() is asked again')
  await app.push.unsubscribe('user:cat', 'channel:room')
  think()
  assert.equal(codeOf(await cat.next('error')), 'PUSH_ERR_FORBIDDEN')
  ben.send('push.publish', said('quiet here'))
  assert.deepEqual((await ben.next('chat.message')).payload, { text: 'quiet here' })
})

test('property: whatever a client sends, it is answered once, and others get only what was checked', async t => {
  const { app } = await onMemory(t, { limits: { messages: 1_000_000 } })
  const [ann, ben] = await Promise.all(['ann', 'ben'].map(user => openConnection(app, `/ws/room?user=${user}`)))
  const some = (value: fc.Arbitrary<unknown>) => fc.oneof({ weight: 9, arbitrary: value }, fc.jsonValue())
  const usual = fc.record({
    topic: some(fc.oneof({ weight: 5, arbitrary: fc.constant('channel:room') }, fc.constantFrom('user:ann', 'all'))),
    type: some(fc.constantFrom('chat.message', 'chat.message', 'chat.typing', 'order')),
    payload: some(fc.record({ text: fc.string() })),
    echo: some(fc.boolean()),
  })
  const more = fc.oneof({ weight: 5, arbitrary: fc.constant({}) }, fc.record({ key: fc.jsonValue() }), fc.object())
  const payload = fc.tuple(usual, more).map(([message, others]) => ({ ...others, ...message }))
  let published = 0
  await fc.assert(
    fc.asyncProperty(fc.oneof(payload, fc.jsonValue()), async value => {
      const answer = await publish(ann!, value as object)
      assert.match(codeOf(answer), /^(push\.published|PUSH_ERR_\w+)$/)
      if (answer.type === 'push.published') published++
    }),
    { numRuns: 500 },
  )
  assert.ok(published > 10, `${published} published`)
  await publish(ann!, said('the end'))
  for (let n = 0; n < published; n++) {
    const { from, type, payload: told } = await ben!.next()
    assert.deepEqual(from, { user: 'ann' })
    if (type === 'chat.message') assert.equal(typeof (told as { text: unknown }).text, 'string')
  }
  assert.deepEqual((await ben!.next()).payload, { text: 'the end' })
})

test('an authorize() that fails is logged, and tells the client nothing', async t => {
  const { app, log } = await onMemory(t, {
    authorize(_connection, _topic, { action }) {
      if (action === 'publish') throw new Error('secret of the database')
      return true
    },
  })
  const connection = await openConnection(app, '/ws/room?user=ann')
  const { payload } = await publish(connection, said('x'))
  assert.deepEqual(payload, { code: 'PUSH_ERR_HANDLER', message: 'the handler failed' })
  assert.ok(log.some(line => JSON.stringify(line).includes('secret of the database')))
})

test('without Redis the client is told that it may publish again, and not where Redis is', async t => {
  const redis = await startRedis(t)
  const node = await buildPush(t, { ...CHAT, redis: redis.url, publishTimeout: 500 })
  const connection = await openConnection(node.app, '/ws/room?user=ann')
  await until(async () => codeOf(await publish(connection, said('before'))) === 'push.published', 'it is published')
  await redis.kill()
  await until(async () => !(await node.app.push.status()).connected, 'the node has noticed')
  const answers = await within(
    Promise.all([0].map(() => publish(connection, said('during')))),
    'the answer of a node without Redis',
  )
  assert.deepEqual(answers[0]!.payload, {
    code: 'PUSH_ERR_BROKER_AWAY',
    message: 'nothing was published: publish again later',
  })
  for (let n = 0; n < 5; n++) await publish(connection, said('again'))
  const lines = node.log.filter(({ msg }) => msg === 'push: a handler failed')
  assert.equal(lines.length, 1, 'one line for all of them')
  assert.ok(!JSON.stringify(lines).includes('during'))
})

test('with a frozen Redis the client learns that it does not know, and its key makes the repeat harmless', async t => {
  const redis = await startRedis(t)
  const node = await buildPush(t, { ...CHAT, redis: redis.url, publishTimeout: 1000 })
  const connection = await openConnection(node.app, '/ws/kept?user=ann')
  const message = said('once', 'channel:kept', { key: 'k' })
  redis.freeze()
  const { payload } = await publish(connection, message)
  assert.deepEqual(payload, {
    code: 'PUSH_ERR_UNCONFIRMED',
    message: 'it may or may not have been published: with a key it is safe to publish again',
  })
  redis.thaw()
  let answer: TestMessage | undefined
  await until(async () => {
    answer = await publish(connection, message)
    return answer.type === 'push.published'
  }, 'it is published again')
  assert.equal((answer!.payload as { seq: number }).seq, 1)
  const { messages } = await node.app.push.history('channel:kept')
  assert.deepEqual(
    messages.map(({ payload: text, from }) => [text, from]),
    [[{ text: 'once' }, { user: 'ann' }]],
  )
})

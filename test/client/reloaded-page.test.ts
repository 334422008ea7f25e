import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import {
  type Client,
  type ClientOptions,
  connect,
  type KeptPositions,
  type PositionStore,
} from '../../src/client/index.ts'
import { buildPush } from '../helpers/app.ts'
import { startScriptedServer } from '../helpers/scripted-server.ts'
import { Inbox, within } from '../helpers/waiting.ts'

const LIMIT = { timeout: 120_000 }
const RULE = { size: 100, ttl: 60 }

/** A store that remembers JSON, as sessionStorage does. */
function memory(text = 'null') {
  const saved: KeptPositions[] = []
  const store: PositionStore = {
    load: () => JSON.parse(text),
    save(kept) {
      text = JSON.stringify(kept)
      saved.push(kept)
    },
  }
  return { store, saved }
}

function start(t: TestContext, url: string, options: ClientOptions): Client {
  t.mock.method(Math, 'random', () => 0)
  const client = connect(url, { WebSocket, ...options })
  t.after(() => client.close())
  return client
}

const welcomed = (client: Client) =>
  within(new Promise(resolve => client.listen('welcome', resolve)), 'a welcome of the client')

function heard(client: Client): Inbox<unknown> {
  const inbox = new Inbox<unknown>('a message')
  client.on('*', payload => inbox.put(payload))
  return inbox
}

function fakeStorage() {
  const items = new Map<string, string>()
  return { items, getItem: (key: string) => items.get(key) ?? null, setItem: (k: string, v: string) => items.set(k, v) }
}

test('the next page goes on where the last one was, with sessionStorage', LIMIT, async t => {
  const sessionStorage = fakeStorage()
  Object.defineProperty(globalThis, 'sessionStorage', { value: sessionStorage, configurable: true })
  const { app, port } = await buildPush(t, { history: { 'channel:*': RULE, 'user:*': RULE } })
  const url = `ws://127.0.0.1:${port}/ws?user=ann`
  const open = () => start(t, url, { positions: 'session', topics: ['channel:a'] })
  const record = (topic: string, payload: number) => app.push.publish(topic, { type: 'n', payload })

  const first = open()
  const inbox = heard(first)
  await within(first.subscribe('channel:a'), 'the subscription')
  await record('channel:a', 1)
  await record('user:ann', 2)
  assert.deepEqual([await inbox.take(), await inbox.take()], [1, 2])
  first.close()
  await record('channel:a', 3)
  await record('user:ann', 4)

  const second = heard(open())
  assert.deepEqual([await second.take(), await second.take()].sort(), [3, 4])
  // After the clients, which write there when they are closed.
  t.after(() => Reflect.deleteProperty(globalThis, 'sessionStorage'))
  const [[key, text], ...others] = [...sessionStorage.items] as [[string, string]]
  assert.equal(key, `push-positions ws://127.0.0.1:${port}/ws`, 'nothing of the query, which may have a ticket')
  assert.equal(JSON.parse(text).user, 'ann')
  assert.deepEqual(others, [])
})

test('what another user left is dropped at the welcome, except what that user is told in any case', LIMIT, async t => {
  const { store, saved } = memory('{"user":"ann","positions":{"user:ann":"a","channel:a":"b","all":"c"}}')
  const server = await startScriptedServer(t)
  const client = start(t, `ws://127.0.0.1:${server.port}/ws`, { positions: store })
  const visit = await server.next()
  assert.deepEqual(Object.keys(visit.since).sort(), ['all', 'channel:a', 'user:ann'])
  const open = welcomed(client)
  visit.welcome({ all: { id: 'c', seq: 3, recovered: true } }, { user: 'bob' })
  await open
  const subscribed = client.subscribe('channel:a')
  const { payload, ref } = await visit.messages.take()
  assert.deepEqual(payload, { topic: 'channel:a' }, 'it begins where the topic is')
  visit.say('subscribed', { topic: 'channel:a', id: 'd', seq: 4 }, { ref })
  await within(subscribed, 'the subscription')
  client.close()
  assert.deepEqual(saved.at(-1), { user: 'bob', positions: { all: 'c', 'channel:a': 'd' } })
})

test('the same user, or a store of which nobody knows whose it is, goes on; `since` comes first', LIMIT, async t => {
  for (const kept of ['{"user":"42","positions":{"channel:a":"b"}}', '{"positions":{"channel:a":"b"}}']) {
    const server = await startScriptedServer(t)
    const since = { 'channel:c': 'd' }
    const client = start(t, `ws://127.0.0.1:${server.port}/ws`, { positions: memory(kept).store, since })
    const visit = await server.next()
    assert.deepEqual(visit.since, { 'channel:a': 'b', 'channel:c': 'd' })
    const open = welcomed(client)
    visit.welcome()
    await open
    client.subscribe('channel:a')
    assert.deepEqual((await visit.messages.take()).payload, { topic: 'channel:a', since: 'b' })
  }
})

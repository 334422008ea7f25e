import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { API_KEY, cleanups, type InteropNode } from '../helpers/processes.ts'
import type { RedisServer } from '../helpers/redis.ts'
import { startScriptedServer, type Visit } from '../helpers/scripted-server.ts'
import { createAuthority } from '../helpers/tls.ts'
import { runFaults, startNodes } from './php/faults.ts'
import { PhpClient } from './php/worker.ts'

interface Message {
  type: string
  payload: unknown
  topic?: string
  seq?: number
  id?: string
}

const all = cleanups()
let redis: RedisServer
let nodes: InteropNode[]
let node: InteropNode

before(async () => {
  const started = await startNodes(all)
  redis = started.redis
  nodes = started.nodes
  node = nodes[0]!
})
after(() => all.end())

const record = (topic: string, payload: number, size = 100) =>
  redis.admin.call('FCALL', 'push_publish', 1, `push:${topic}`, JSON.stringify({ type: 'n', payload }), size, 600)

test('a worker gets what it missed, in order, is told a gap, asks and is answered', async t => {
  const topics = ['channel:long', 'channel:short']
  const worker = new PhpClient(t, `${node.url}?user=w`, { topics, request: { type: 'whoami' } })
  assert.equal((await worker.next<{ ip: string }>('reply')).ip, '127.0.0.1')
  await worker.next('ready')
  await redis.admin.publish('push:user:w', '{"type":"ready","payload":{"a":[],"b":2.5}}')
  assert.deepEqual((await worker.next<Message>('message')).payload, { a: [], b: 2.5 })
  for (const topic of topics) {
    await record(topic, 1, 2)
    assert.equal((await worker.next<Message>('message')).payload, 1)
  }

  // It sleeps; its connection ends, and more is recorded than the short topic keeps.
  process.kill(worker.pid, 'SIGSTOP')
  await redis.admin.publish('push:user:w', '{"control":"close","code":3000}')
  for (let n = 2; n <= 5; n++) {
    await record('channel:long', n, 100)
    await record('channel:short', n, 2)
  }
  process.kill(worker.pid, 'SIGCONT')
  const heard: Record<string, unknown[]> = { 'channel:long': [], 'channel:short': [] }
  // Either topic may come first. Behind a gap a client goes on from the head.
  for (let i = 0; i < 5; i++) {
    const { type, payload, topic } = await worker.next<Message>('message')
    if (type === 'n') heard[topic!]!.push(payload)
    else heard['channel:short']!.push((payload as { reason: string }).reason)
  }
  await record('channel:short', 6, 2)
  heard['channel:short']!.push((await worker.next<Message>('message')).payload)
  assert.deepEqual(heard, { 'channel:long': [2, 3, 4, 5], 'channel:short': ['history_trimmed', 6] })
  const positions = await worker.next<Record<string, string>>('positions')

  await redis.admin.publish('push:user:w', '{"type":"stop"}')
  assert.equal(await worker.program.exited, 0)
  await record('channel:long', 6)
  const next = new PhpClient(t, `${node.url}?user=w`, { topics, since: positions })
  assert.equal((await next.next<Message>('message')).payload, 6)
  await redis.admin.publish('push:user:w', '{"type":"stop"}')
  assert.equal(await next.program.exited, 0)
})

test('a revoked worker stays away and says why; so does one with a ticket that was used', async t => {
  const worker = new PhpClient(t, `${node.url}?user=r`)
  await worker.next('open')
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  await fetch(`${node.origin}/push/revoke`, { method: 'POST', headers, body: '{"target":"user:r"}' })
  assert.deepEqual((await worker.next<unknown[]>('end')).slice(0, 2), ['CLOSED', 4401])
  const refused = new PhpClient(t, `${node.url}?ticket=0000000000000000`)
  const [code, status, sentence] = await refused.next<[string, number, string]>('end')
  assert.deepEqual([code, status], ['CLOSED', 4401])
  assert.match(sentence, /401: the ticket is unknown/)
})

const TOPIC = { 'user:42': { id: 't.1.1-0', seq: 1 } }

/** Welcomes as a node would that has all that was missed. */
const recovered = (visit: Visit) => visit.welcome({ 'user:42': { id: 't.9.9-0', seq: 9, recovered: true } })

test('it comes back on every code that allows it, from where it was', async t => {
  const server = await startScriptedServer(t)
  const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`)
  let visit = await server.next()
  assert.deepEqual(visit.since, {})
  visit.welcome(TOPIC)
  let n = 1
  for (const code of [1001, 1011, 1012, 1013, 3000, 4399, 4500, 4502, 4503, 4504, 'cut', 'inside', 'masked'] as const) {
    n++
    visit.say('n', n, { topic: 'user:42', id: `t.${n}.${n}-0`, seq: n })
    const message = await worker.next<Message>('message')
    assert.equal(message.payload, n)
    if (code === 'cut') visit.cut()
    else if (code === 'inside') {
      // A frame of a hundred bytes, of which ten come.
      visit.write(Buffer.from([0x81, 100, ...Buffer.from('{"type":"n')]))
      visit.cut()
    } else if (code === 'masked') visit.write(Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5]))
    else visit.close(code)
    assert.equal(await visit.endedWith(), typeof code === 'number' ? code : code === 'masked' ? 1002 : 1006)
    visit = await server.next()
    assert.deepEqual(visit.since, { 'user:42': `t.${n}.${n}-0` })
    recovered(visit)
  }
})

test('a message that PHP cannot read is told as a gap', async t => {
  const server = await startScriptedServer(t)
  const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`, { topics: ['channel:a'] })
  const visit = await server.next()
  visit.welcome(TOPIC)
  // Nodes take what is nested as deeply; the parser of PHP gives up before.
  const depth = 20_000
  visit.text(`{"type":"n","payload":${'['.repeat(depth)}${']'.repeat(depth)},"topic":"user:42","id":"t.2.2-0","seq":2}`)
  visit.say('n', 3, { topic: 'user:42', id: 't.3.3-0', seq: 3 })
  const { type, payload } = await worker.next<Message>('message')
  assert.deepEqual([type, payload], ['gap', { topics: ['channel:a', 'user:42'], reason: 'rejected' }])
  assert.equal((await worker.next<Message>('message')).payload, 3)
})

test('it stays away on the codes that say so', async t => {
  const server = await startScriptedServer(t)
  for (const code of [1000, 1008, 1009, 4400, 4401, 4403, 4429]) {
    const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`)
    const visit = await server.next()
    visit.welcome()
    visit.close(code, 'because')
    assert.deepEqual((await worker.next<unknown[]>('end')).slice(0, 2), ['CLOSED', code])
    assert.equal(await worker.program.exited, 3)
  }
  const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`)
  const visit = await server.next()
  visit.welcome()
  // It announces more than the client takes; nothing is kept for it.
  visit.write(Buffer.from([0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]))
  assert.deepEqual((await worker.next<unknown[]>('end')).slice(0, 2), ['CLOSED', 1009])
})

test('it waits for as long as the server says, asks for a new ticket each time, and takes a refusal for a while', async t => {
  const server = await startScriptedServer(t)
  server.refusals.push({ status: 503, headers: 'Retry-After: 0\r\n' }, { status: 404 })
  const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`, { ticket: 'data:,one' })
  const visit = await server.next()
  assert.equal(visit.url.searchParams.get('ticket'), 'one')
  visit.welcome()
  await worker.next('open')
  const began = performance.now()
  visit.say('reconnect', { after: 400 })
  visit.close(1012)
  const back = await server.next()
  assert.ok(back.at - began >= 400, `it came back after ${back.at - began} ms`)
  back.welcome()
  back.say('push.expiring', { expires: Date.now() + 1000 })
  const renewed = await back.messages.take()
  assert.deepEqual([renewed.type, renewed.payload], ['authenticate', { ticket: 'one' }])
})

test('it acknowledges what was handled, answers pings, reads parts, and asks whether the server lives', async t => {
  const server = await startScriptedServer(t)
  const worker = new PhpClient(t, `ws://127.0.0.1:${server.port}/ws`, {
    topics: ['channel:no', 'channel:yes'],
    presence: 'channel:yes',
  })
  const visit = await server.next()
  visit.welcome({}, {})
  const questions = [await visit.messages.take(), await visit.messages.take(), await visit.messages.take()]
  const about = (topic: string, presence?: boolean) =>
    questions.find(({ payload }) => {
      const asked = payload as { topic: string; presence?: boolean }
      return asked.topic === topic && asked.presence === presence
    })!
  visit.say('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'no' }, { ref: about('channel:no').ref })
  assert.deepEqual(await worker.next('error'), ['PUSH_ERR_FORBIDDEN', 'no'])
  visit.say('subscribed', { topic: 'channel:yes' }, { ref: about('channel:yes').ref })
  const list = { topic: 'channel:yes', count: 1, anonymous: 0, members: [{ user: 'ann', connections: 1, since: 1 }] }
  visit.say('subscribed', { topic: 'channel:yes', presence: list }, { ref: about('channel:yes', true).ref })
  assert.deepEqual(await worker.next('roster'), { count: 1, users: ['ann'] })
  visit.say('alarm', {}, { topic: 'all', ack: 'token-1' })
  assert.deepEqual(await worker.next('message'), { type: 'alarm', payload: [], topic: 'all' })
  assert.deepEqual(await visit.messages.take(), { type: 'ack', payload: { token: 'token-1' } })
  await visit.ping()
  // Cut inside of a character.
  const text = Buffer.from('{"type":"parts","payload":"Käse"}')
  visit.write(
    Buffer.concat([
      Buffer.from([0x01, 29]),
      text.subarray(0, 29),
      Buffer.from([0x80, text.length - 29]),
      text.subarray(29),
    ]),
  )
  assert.equal((await worker.next<Message>('message')).payload, 'Käse')
  // A topic that was refused for good is not asked for again.
  visit.cut()
  const again = await server.next()
  again.welcome({}, { heartbeat: { interval: 1000, timeout: 1000 } })
  const topics = [await again.messages.take(), await again.messages.take()].map(
    ({ payload }) => (payload as { topic: string }).topic,
  )
  assert.deepEqual(topics, ['channel:yes', 'channel:yes'])
  // The server is silent for a second: the client wants to know whether it is still there.
  assert.deepEqual(await again.messages.take(), { type: 'ping' })
})

test('TLS: only a certificate of a known authority and of this name', async t => {
  const authority = await createAuthority(t)
  await authority.certify('here', 'IP:127.0.0.1')
  await authority.certify('elsewhere', 'DNS:elsewhere.example')
  const start = (name: string) =>
    startScriptedServer(t, { cert: authority.read(`${name}.crt`), key: authority.read(`${name}.key`) })
  const [here, elsewhere] = [await start('here'), await start('elsewhere')]
  const ssl = { cafile: authority.file('ca.crt') }
  const good = new PhpClient(t, `wss://127.0.0.1:${here.port}/ws`, { ssl })
  const visit = await here.next()
  visit.welcome()
  visit.say('large', 'x'.repeat(300_000))
  assert.equal((await good.next<Message & { payload: string }>('message')).payload.length, 300_000)
  const refused: [number, object, RegExp][] = [
    [here.port, {}, /certificate verify failed/],
    [elsewhere.port, { ssl }, /did not match/],
  ]
  for (const [port, options, why] of refused) {
    const worker = new PhpClient(t, `wss://127.0.0.1:${port}/ws`, options)
    const [code, sentence] = await worker.next<[string, string]>('error')
    assert.equal(code, 'CONNECT')
    assert.match(sentence, why)
    await worker.program.stop('SIGKILL')
  }
})

// Behind the others, because it ends their nodes.
test('a few seconds of faults lose nothing and bring nothing twice', async () => {
  const { problems, received, faults } = await runFaults(all, { redis, nodes }, { seconds: 3, seed: 7 })
  assert.deepEqual(problems, [])
  assert.ok(received > 0 && Object.keys(faults).length > 0)
})

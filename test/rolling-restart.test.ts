import assert from 'node:assert/strict'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, connect } from '../src/client/index.ts'
import { createPublisher } from '../src/publisher.ts'
import { buildPush, type TestApp } from './helpers/app.ts'
import { startRedis } from './helpers/redis.ts'
import { once, PATIENCE, publishAhead, until, within } from './helpers/waiting.ts'

const LONG = { timeout: 120_000 }
const CLIENTS = 60
const HISTORY = { 'channel:*': { size: 10_000, ttl: 600 } }
/** Publications that a client may miss while it is away: well within what the history keeps. */
const AHEAD = 2000

/** A balancer that gives every connection to the next node in turn. */
async function balance(t: TestContext, ports: () => readonly number[]) {
  let turn = 0
  const server = createServer(client => {
    const live = ports()
    const node = dial(live[turn++ % live.length]!, '127.0.0.1')
    for (const [from, to] of [
      [client, node],
      [node, client],
    ] as const) {
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}

test('a rolling restart of three nodes loses nothing, repeats nothing and tells nobody of a gap', LONG, async t => {
  const redis = await startRedis(t)
  const start = () => buildPush(t, { redis: redis.url, history: HISTORY, drain: { window: 200, timeout: 3000 } })
  let nodes: TestApp[] = await Promise.all([start(), start(), start()])
  const port = await balance(t, () => nodes.map(node => node.port))
  const received = Array.from({ length: CLIENTS }, (): number[] => [])
  const gaps: unknown[] = []
  const returns: number[] = []
  const clients = received.map(numbers => {
    const client: Client = connect(`ws://127.0.0.1:${port}/ws`, { WebSocket, topics: ['channel:news'] })
    client.on('n', payload => numbers.push(payload as number))
    client.listen('gap', gap => gaps.push(gap))
    client.listen('welcome', () => returns.push(performance.now()))
    t.after(() => client.close())
    return client
  })
  const subscribed = clients.map(client => new Promise(resolve => client.listen('subscribed', resolve)))
  await within(Promise.all(subscribed), 'every client is subscribed')
  returns.length = 0
  const publisher = createPublisher({ redis: redis.url, history: HISTORY, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  let isOver = false
  const read = () => Math.min(...received.map(numbers => numbers.at(-1) ?? 0))
  const publishing = publishAhead(
    n => publisher.publish('channel:news', { type: 'n', payload: n }),
    () => isOver,
    { most: AHEAD, read },
  )
  try {
    for (const old of nodes) {
      const replacement = await start()
      nodes = [...nodes.filter(node => node !== old), replacement]
      await old.app.close()
    }
  } finally {
    isOver = true
  }
  const published = await publishing
  const everything = Array.from({ length: published }, (_, i) => i + 1)
  await until(
    () => read() === published,
    () => `all have ${published}, the slowest has ${read()}`,
  )
  for (const numbers of received) assert.deepEqual(numbers, everything)
  assert.deepEqual(gaps, [])
  assert.ok(returns.length >= CLIENTS, `${returns.length} returned`)
})

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPublisher } from '../../src/publisher.ts'
import { listenTo } from '../helpers/listener.ts'
import { cleanups, Program, path, run, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { PATIENCE, within } from '../helpers/waiting.ts'

const BURST = 5000
const BATCH = 1000
/** Debian's modules belong to Debian's Python. */
const python = findProgram('/usr/bin/python3', 'python3')!
const publishScript = path('example/python/publish.py')
const listenScript = path('example/python/listen.py')

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

test('publish.py reaches a connection, and listen.py prints it', async t => {
  const node = await startInteropNode(t, redis.url)
  const browser = await listenTo(t, `${node.url}/kitchen`)
  const listener = new Program(t, python, [listenScript, `${node.url}/kitchen?user=python`])
  assert.equal(JSON.parse(await listener.line(/"welcome"/)).payload.user, 'python')

  const env = { REDIS_URL: redis.url }
  const args = ['channel:kitchen', 'order.created', '{"note": "Käse", "options": {}, "items": []}']
  const { stdout, stderr } = await run(python, [publishScript, ...args], { env })
  assert.equal(stdout, 'channel:kitchen: 1 node(s) listen\n', stderr)
  const message = {
    type: 'order.created',
    payload: { note: 'Käse', options: {}, items: [] },
    topic: 'channel:kitchen',
  }
  assert.deepEqual(await browser.next('order.created'), message)
  assert.deepEqual(JSON.parse(await listener.line(/order\.created/)), message)
  assert.match((await run(python, [publishScript], { env })).stdout, /^channel:demo: nobody listens now$/m)
  const nan = await run(python, [publishScript, 'channel:kitchen', 'notice', '{"price": NaN}'], { env })
  assert.match(nan.stderr, /ValueError: Out of range float values are not JSON compliant/)

  await node.program.stop()
  await listener.line(/^closed: 1012/)
})

test('record.py: what was recorded while a client was away reaches it when it is back', async t => {
  const node = await startInteropNode(t, redis.url)
  const before = await listenTo(t, `${node.url}/recorded`)
  const held = before.welcome.topics['channel:recorded']!.id
  before.socket.terminate()
  await before.closed

  const env = { REDIS_URL: redis.url }
  const record = (n: number) =>
    run(
      python,
      [path('example/python/record.py'), 'channel:recorded', 'tick', `{"n": ${n}, "items": []}`, `tick-${n}`],
      { env },
    )
  for (const n of [1, 2]) assert.match((await record(n)).stdout, new RegExp(`^channel:recorded: number ${n}, `))
  assert.match((await record(2)).stdout, /number 2, .*, recorded before$/m)
  const since = encodeURIComponent(JSON.stringify({ 'channel:recorded': held }))
  const after = await listenTo(t, `${node.url}/recorded?since=${since}`)
  for (const n of [1, 2]) assert.deepEqual((await after.next('tick')).payload, { n, items: [] })

  const wrong = await run(python, [path('example/python/record.py'), 'connection:x'], { env })
  assert.deepEqual([wrong.code, wrong.stderr], [1, 'PUSH_ERR_TOPIC connection: is never recorded\n'])
})

test('listen.py stays away when it is not wanted', async t => {
  const node = await startInteropNode(t, redis.url)
  const { code, stderr } = await run(python, [listenScript, `${node.url}?user=nobody`])
  assert.equal(code, 0)
  assert.match(stderr, /HTTP 401/)
  const listener = new Program(t, python, [listenScript, `${node.url}?user=leaver`])
  await listener.line(/"welcome"/)
  await redis.admin.publish('push:user:leaver', '{"control":"close","code":4403,"reason":"revoked"}')
  await listener.line(/^closed: 4403 revoked/)
  assert.equal(await within(listener.exited, 'the end of listen.py'), 0)
})

for (const [name, env] of [
  ['frames of our own', {}],
  ['frames of ws', { PUSH_ORDINARY_SEND: '1' }],
] as const) {
  test(`Python's websockets reads a burst of ${BURST} messages in order: ${name}`, async t => {
    const node = await startInteropNode(t, redis.url, env)
    const listener = new Program(t, python, [listenScript, `${node.url}/burst`])
    await listener.line(/"welcome"/)
    const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
    t.after(() => publisher.end())
    const requests = Array.from({ length: BURST }, (_, n) => ({
      to: 'channel:burst',
      type: 'tick',
      // Lengths on both sides of 126, where the header of a frame changes.
      payload: { n, text: 'ä'.repeat(n % 60) },
    }))
    const batches = Array.from({ length: BURST / BATCH }, (_, n) => requests.slice(n * BATCH, (n + 1) * BATCH))
    await Promise.all(batches.map(batch => publisher.publish(batch)))
    await listener.line(new RegExp(`"n":${BURST - 1},`))
    const numbers = listener.lines.slice(1).map(line => JSON.parse(line).payload.n)
    assert.deepEqual(numbers, Array.from(requests.keys()))
  })
}

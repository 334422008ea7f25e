import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { listenTo } from '../helpers/listener.ts'
import { API_KEY, cleanups, type InteropNode, path, run, startInteropNode } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'

const all = cleanups()
let redis: RedisServer
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  node = await startInteropNode(all, redis.url)
})
after(() => all.end())

const message = ['order.created', '{"id":12345678901234567890,"note":"it\'s 5 °C","options":{}}'] as const

test('publish.sh: redis-cli, and the payload arrives as it was typed', async t => {
  const client = await listenTo(t, `${node.url}?user=shell`)
  const script = path('example/shell/publish.sh')
  const env = { REDIS_URL: redis.url }
  assert.equal((await run(script, ['user:shell', ...message], { env })).stdout, '1\n')
  await client.next('order.created')
  assert.ok(client.texts.at(-1)!.includes(`"payload":${message[1]}`), client.texts.at(-1))
  assert.equal((await run(script, [], { env })).stdout, '0\n')
})

test('push.sh: curl, the answer, and why it was refused', async t => {
  const client = await listenTo(t, `${node.url}?user=shell`)
  const script = path('example/shell/push.sh')
  const env = { PUSH_URL: `${node.origin}/push`, PUSH_API_KEY: API_KEY }
  const { stdout } = await run(script, ['user:shell', 'order.created', '{"options":{}}'], { env })
  assert.deepEqual(JSON.parse(stdout), { topic: 'user:shell', nodes: 1, delivered: 1, skipped: 0, complete: true })
  assert.deepEqual((await client.next('order.created')).payload, { options: {} })

  const wrongKey = await run(script, [], { env: { ...env, PUSH_API_KEY: 'guessed' } })
  assert.notEqual(wrongKey.code, 0)
  assert.equal(JSON.parse(wrongKey.stdout).code, 'PUSH_ERR_UNAUTHENTICATED')
  const brokenJson = await run(script, ['user:shell', 'x', '{text: 1}'], { env })
  assert.notEqual(brokenJson.code, 0)
  assert.match(JSON.parse(brokenJson.stdout).message, /the body is broken JSON/)
  const noKey = await run(script, [], { env: { PUSH_API_KEY: undefined } })
  assert.match(noKey.stderr, /set it to a key of the push API/)
})

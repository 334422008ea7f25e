import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { KeyRates } from '../../src/routes/api-rates.ts'
import { callApi } from '../helpers/api.ts'
import { buildPush, KEY } from '../helpers/app.ts'
import { until } from '../helpers/waiting.ts'

const OTHER = { key: 'fedcba9876543210', topics: ['user:*'], actions: ['publish', 'status'] as const }

test('api.rate: each key has its own, and 429 says when to come back', async t => {
  const { app, port } = await buildPush(t, { api: { keys: [KEY, OTHER], rate: 1 } })
  const began = performance.now()
  const answers = await Promise.all(Array.from({ length: 40 }, () => callApi(port, '/push/status')))
  // A burst of two, and one for each second that the machine took.
  const most = 2 + Math.ceil((performance.now() - began) / 1000)
  const refused = answers.filter(({ status }) => status === 429)
  assert.ok(refused.length >= 40 - most && refused.length > 0, `${refused.length} refused`)
  for (const { body, headers } of refused) {
    assert.equal(body.code, 'PUSH_ERR_RATE')
    assert.match(body.message!, /more than 1 requests a second with this key \(api\.rate\)/)
    assert.equal(headers.get('retry-after'), '1')
  }
  assert.ok(answers.every(({ status }) => status === 200 || status === 429))
  const headers = { authorization: `Bearer ${OTHER.key}` }
  assert.equal((await callApi(port, '/push/status', { headers })).status, 200)
  assert.equal((await callApi(port, '/push/status', { headers: { authorization: 'Bearer wrong' } })).status, 401)
  const { metrics } = await app.push.status()
  assert.equal(metrics['api_refused_total{PUSH_ERR_RATE}'], refused.length)
  assert.equal(metrics['api_refused_total{PUSH_ERR_UNAUTHENTICATED}'], 1)
})

test('two keys in one request both count, and a request that one of them refuses costs neither anything', t => {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const rates = new KeyRates([KEY, OTHER], 1)
  assert.deepEqual([rates.take([KEY]), rates.take([KEY, OTHER])], [0, 0])
  assert.equal(rates.take([KEY, OTHER]), 1)
  assert.deepEqual([rates.take([OTHER]), rates.take([OTHER])], [0, 1])
  now = 1000
  assert.equal(rates.take([KEY, OTHER]), 0)
  assert.equal(rates.take([KEY]), 1)
})

test('a body that breaks off is counted under a code of the table, once', async t => {
  const { app, port } = await buildPush(t, { api: { keys: [KEY] } })
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.end(
    `POST /push HTTP/1.1\r\nHost: x\r\nX-Push-Key: ${KEY}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"to"`,
  )
  const refused = async () =>
    Object.entries((await app.push.status()).metrics).filter(([name]) => name.startsWith('api_refused_total'))
  await until(async () => (await refused()).length > 0, 'the refusal is counted')
  assert.deepEqual(await refused(), [['api_refused_total{PUSH_ERR_JSON}', 1]])
})

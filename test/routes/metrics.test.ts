import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createServer as createServe } from '../../src/cli.ts'
import { readSettings, type ServeSettings } from '../../src/node/serve-settings.ts'
import { freePort } from '../helpers/redis.ts'
import { once, within } from '../helpers/waiting.ts'

const KEY = 'the-key-of-prometheus'

/** `serve --dev`, in this process. */
async function serve(t: TestContext, env: Record<string, string>) {
  const settings = readSettings(['serve', '--dev', '--log-level', 'silent'], env) as ServeSettings
  const app = await createServe(settings, 'a-ticket')
  t.after(() => within(app.close(), 'the end of serve'))
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, origin }
}

async function get(url: string, headers: Record<string, string> = {}) {
  const response = await within(fetch(url, { headers }), url)
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() }
}

test('serve: no metrics for anybody because nobody set them', async t => {
  const { origin } = await serve(t, {})
  assert.equal((await get(`${origin}/metrics`)).status, 404)
  assert.equal((await get(`${origin}/readyz`)).status, 200)
})

test('serve: metrics of the node and of its process, at the path that was set', async t => {
  const { origin } = await serve(t, { METRICS: '/metrics' })
  const { status, type, text } = await get(`${origin}/metrics`)
  assert.equal(status, 200)
  assert.match(String(type), /^text\/plain; version=0\.0\.4/)
  assert.match(text, /^push_connections\{registration="push"\} 0$/m)
  assert.match(text, /^process_resident_memory_bytes \d+$/m)
})

test('serve: with a key, nobody without it sees metrics', async t => {
  const { origin } = await serve(t, { METRICS: '/metrics', METRICS_KEY: KEY })
  for (const headers of [
    {},
    { authorization: 'Bearer ' },
    { authorization: `Bearer ${KEY}x` },
    { authorization: KEY },
  ]) {
    const { status, text } = await get(`${origin}/metrics`, headers as Record<string, string>)
    assert.equal(status, 401)
    assert.doesNotMatch(text, /push_connections|the-key/)
  }
  assert.equal((await get(`${origin}/metrics`, { authorization: `Bearer ${KEY}` })).status, 200)
})

test('serve: metrics on an address of their own are nowhere else, and end with it', async t => {
  const port = await freePort()
  const { app, origin } = await serve(t, { METRICS: '/metrics', METRICS_LISTEN: `127.0.0.1:${port}` })
  assert.equal((await get(`${origin}/metrics`)).status, 404)
  const apart = `http://127.0.0.1:${port}`
  assert.equal((await get(`${apart}/metrics`)).status, 200)
  assert.deepEqual(
    [(await get(`${apart}/readyz`)).status, (await get(`${apart}/push`)).status, (await get(`${apart}/ws`)).status],
    [404, 404, 404],
  )
  await within(app.close(), 'the end of serve')
  await assert.rejects(fetch(`${apart}/metrics`))
})

test('serve: an address for metrics that is taken ends it', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  t.after(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address() as { port: number }
  await assert.rejects(serve(t, { METRICS: '/metrics', METRICS_LISTEN: `${port}` }), { code: 'EADDRINUSE' })
})

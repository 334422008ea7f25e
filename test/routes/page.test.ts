import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import helmet from '@fastify/helmet'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { createServer } from '../../src/cli.ts'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { readSettings, type ServeSettings } from '../../src/node/serve-settings.ts'
import { PAGE_PATHS } from '../../src/routes/page.ts'
import { buildApp, buildPush, KEY, OPEN, type TestApp } from '../helpers/app.ts'
import { within } from '../helpers/waiting.ts'

const api = { keys: [KEY], page: true }
const WITH_KEY = { authorization: `Bearer ${KEY}` }

/** More than 25 kB of script would be a framework by another name. */
const MOST = { '/page': 10_000, '/page/page.js': 40_000, '/page/page.css': 12_000, '/page/icon.svg': 1000 }

function get({ port }: Pick<TestApp, 'port'>, url: string, init: RequestInit = {}): Promise<Response> {
  return within(fetch(`http://127.0.0.1:${port}${url}`, init), url)
}

test('page: off by default, and then behind the guard like everything that is not there', async t => {
  const node = await buildPush(t, { api: { keys: [KEY] } })
  for (const path of PAGE_PATHS) {
    assert.equal((await get(node, `/push${path}`)).status, 401, path)
    assert.equal((await get(node, `/push${path}`, { headers: WITH_KEY })).status, 404, path)
  }
  const without = await buildPush(t)
  for (const path of PAGE_PATHS) assert.equal((await get(without, `/push${path}`)).status, 404, path)
})

test('page: its files need no key and hold none, and are small', async t => {
  const node = await buildPush(t, { api })
  assert.deepEqual([...PAGE_PATHS].sort(), Object.keys(MOST).sort())
  for (const [path, most] of Object.entries(MOST)) {
    const response = await get(node, `/push${path}`)
    const text = await response.text()
    assert.equal(response.status, 200, path)
    assert.ok(text.length < most, `${path} has ${text.length} characters`)
    assert.doesNotMatch(text, new RegExp(KEY))
  }
})

test('page: a policy that lets nothing in and nothing out', async t => {
  const node = await buildPush(t, { api })
  for (const path of PAGE_PATHS) {
    const { headers } = await get(node, `/push${path}`)
    const policy = headers.get('content-security-policy')!.split('; ')
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"]) {
      assert.ok(policy.includes(part), `${path}: ${part}`)
    }
    assert.doesNotMatch(policy.join(), /unsafe|data:|blob:|\*|https?:/)
    assert.deepEqual(
      ['referrer-policy', 'x-content-type-options', 'x-frame-options', 'cache-control'].map(it => headers.get(it)),
      ['no-referrer', 'nosniff', 'DENY', 'no-cache'],
    )
    assert.equal(headers.get('access-control-allow-origin'), null)
  }
  const html = await (await get(node, '/push/page')).text()
  assert.doesNotMatch(
    html,
    /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?:|\/\//,
    'nothing inline, nothing of others',
  )
  const script = await (await get(node, '/push/page/page.js')).text()
  assert.doesNotMatch(script, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage/)
})

test('page: HEAD, a copy that is still good, other methods and other paths', async t => {
  const node = await buildPush(t, { api })
  const head = await get(node, '/push/page', { method: 'HEAD' })
  const etag = head.headers.get('etag')!
  assert.deepEqual([head.status, await head.text()], [200, ''])
  assert.match(head.headers.get('content-type')!, /^text\/html; charset=utf-8$/)
  assert.equal((await get(node, '/push/page', { headers: { 'if-none-match': etag } })).status, 304)
  assert.equal((await get(node, '/push/page', { headers: { 'if-none-match': '"other"' } })).status, 200)
  const post = (headers: Record<string, string>) => get(node, '/push/page', { method: 'POST', headers })
  assert.equal((await post({})).status, 401)
  const refused = await post(WITH_KEY)
  assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'GET, HEAD'])
  for (const path of ['/push/page/', '/push/page/index.ts', '/push/page/../page/reports.ts', '/push/page/%2e%2e/x']) {
    assert.equal((await get(node, path)).status, 401, path)
    assert.equal((await get(node, path, { headers: WITH_KEY })).status, 404, path)
  }
})

test('page: opens past the hooks of the host, and with the headers of its own beside helmet', async t => {
  const node = await buildApp(t, async app => {
    await app.register(helmet)
    app.addHook('onRequest', async (_request: FastifyRequest, reply: FastifyReply) => reply.code(401).send('log in'))
    app.addHook('preSerialization', async () => ({ wrapped: true }))
    await app.register(pushBridge, { ...OPEN, api })
  })
  const response = await get(node, '/push/page')
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-security-policy')!, /^default-src 'none'; script-src 'self'; /)
  assert.equal(response.headers.get('referrer-policy'), 'no-referrer')
  assert.match(await response.text(), /^<!doctype html>/)
})

const guardOf = async (t: TestContext, api: PushBridgeOptions['api']) => {
  const node = await buildPush(t, { api: api! })
  const html = await (await get(node, `${api!.path ?? '/push'}/page`.replace('//', '/'))).text()
  return /<html lang="en" data-guard="(\w*)" data-publishing="(.*?)">/.exec(html)?.slice(1)
}

test('page: it knows who guards the push API and where that is', async t => {
  assert.deepEqual(await guardOf(t, api), ['keys', ''])
  assert.deepEqual(await guardOf(t, { page: true, onRequest: () => {} }), ['application', ''])
  assert.deepEqual(await guardOf(t, { ...api, path: '/inside/push/' }), ['keys', '.'])
})

test('page: an option that is no boolean is refused', async t => {
  await assert.rejects(async () => buildPush(t, { api: { keys: [KEY], page: '/page' as never } }), {
    code: 'PUSH_ERR_OPTIONS',
    message: /option api\.page must be boolean/,
  })
})

test('page: serve shows it when PAGE or --page says so, and only with a key', async t => {
  const read = (args: string[], env: Record<string, string>) =>
    readSettings(['serve', '--dev', '--log-level', 'silent', ...args], env) as ServeSettings
  const key = { PUSH_API_KEY: KEY }
  const variants: [ServeSettings, number][] = [
    [read([], key), 401],
    [read([], { ...key, PAGE: '1' }), 200],
    [read(['--page'], key), 200],
    [read(['--page'], {}), 404],
  ]
  for (const [settings, status] of variants) {
    const app = await createServer(settings, 'a-ticket')
    t.after(() => within(app.close(), 'the end of serve'))
    assert.equal((await app.inject('/push/page')).statusCode, status)
  }
  assert.throws(() => readSettings(['serve', '--redis', 'redis://x', '--page'], {}), /PAGE \(--page\).*PUSH_API_KEY/)
})

import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { connect } from '../../src/client/index.ts'
import { type Refusal, refusalOf } from '../helpers/app.ts'
import { listenTo } from '../helpers/listener.ts'
import { type Nginx, startNginx } from '../helpers/nginx.ts'
import { cleanups, type InteropNode, startInteropNode } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { within } from '../helpers/waiting.ts'

/** Blocks that people copy from tutorials, each short of something, and what becomes of a browser behind them. */

const HTTP_1_1 = 'proxy_http_version 1.1;'
const UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
const HOST = 'proxy_set_header Host $http_host;'

const all = cleanups()
let redis: RedisServer
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  node = await startInteropNode(all, redis.url)
})
after(() => all.end())

/** nginx with the upstream of the example, and nothing but `block` in its server. */
function behind(t: TestContext, block: string): Promise<Nginx> {
  const edit = (conf: string) =>
    `${conf.slice(0, conf.lastIndexOf('server_name'))} location / { ${block} proxy_pass http://push_nodes; } }`
  return startNginx(t, [node.port, node.port], { edit })
}

/** Like a browser whose page came from this nginx: it sends Origin, and is told a close code. */
const pageOf = (nginx: Nginx): Promise<Refusal> => refusalOf(nginx.url, { origin: nginx.origin })

/** The line that the node logged when it refused the page. */
async function logOf(nginx: Nginx): Promise<string> {
  return JSON.parse(await node.program.line(new RegExp(`push: origin ${nginx.origin} `))).msg
}

async function works(t: TestContext, nginx: Nginx, origin = nginx.origin, headers = {}): Promise<void> {
  const page = await listenTo(t, `${nginx.url}/tutorial`, { origin, headers })
  page.send('ping', 'there and back', 1)
  assert.equal((await page.next('pong')).payload, 'there and back')
  await redis.admin.publish('push:channel:tutorial', '{"type":"news","payload":"pushed"}')
  assert.equal((await page.next('news')).payload, 'pushed')
  page.socket.close()
  await page.closed
}

test('the three lines: works', async t => {
  await works(t, await behind(t, `${HTTP_1_1} ${UPGRADE} ${HOST}`))
})

test('no proxy_http_version: works, because Node upgrades a request of HTTP/1.0 as well', async t => {
  await works(t, await behind(t, `${UPGRADE} ${HOST}`))
})

test('Host $host, which drops the port: 4403, and the log names the option and the line for nginx', async t => {
  const nginx = await behind(t, `${HTTP_1_1} ${UPGRADE} proxy_set_header Host $host;`)
  assert.deepEqual(await pageOf(nginx), { code: 4403, reason: `origin ${nginx.origin} may not connect` })
  assert.equal(
    await logOf(nginx),
    `push: origin ${nginx.origin} may not connect; the request is for host 127.0.0.1: list the page's origin in the ` +
      'option origins, or, behind nginx, send the right host with "proxy_set_header Host $http_host;"',
  )
  // On port 80 or 443 there is no port to drop.
  await works(t, nginx, 'http://127.0.0.1', { host: '127.0.0.1' })
})

test('no Host line: the node is asked for the host "push_nodes"; 4403, and the log says so', async t => {
  const nginx = await behind(t, `${HTTP_1_1} ${UPGRADE}`)
  assert.deepEqual(await pageOf(nginx), { code: 4403, reason: `origin ${nginx.origin} may not connect` })
  const line = await logOf(nginx)
  assert.match(line, /the request is for host push_nodes: list the page's origin in the option origins/)
  assert.match(line, /"proxy_set_header Host \$http_host;"$/)
})

for (const [name, block, seen] of [
  ['no Upgrade headers', `${HTTP_1_1} ${HOST}`, 'HTTP/1.1 with Upgrade: (missing) and Connection: close'],
  ['nothing but proxy_pass', '', 'HTTP/1.0 with Upgrade: (missing) and Connection: close'],
  [
    'no Connection header',
    `${HTTP_1_1} ${HOST} proxy_set_header Upgrade $http_upgrade;`,
    'HTTP/1.1 with Upgrade: websocket and Connection: close',
  ],
] as const) {
  test(`${name}: 426, whose text says what came and what nginx needs`, async t => {
    const nginx = await behind(t, block)
    const { status, body } = await pageOf(nginx)
    assert.deepEqual([status, body?.code], [426, 'PUSH_ERR_UPGRADE_REQUIRED'])
    assert.equal(
      body?.message,
      `this is a WebSocket: connect with ws:// or wss://. The request came as ${seen}. Behind nginx the location needs: ` +
        'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; ' +
        'proxy_set_header Host $http_host;',
    )
  })
}

test('no Upgrade headers: our client, which is not shown the answer, says what to check after three attempts', async t => {
  const nginx = await behind(t, '')
  const client = connect(nginx.url, { WebSocket })
  t.after(() => client.close())
  const told = new Promise<string>(resolve => {
    client.listen('unreachable', ({ message }) => resolve(message))
  })
  assert.match(await within(told, 'unreachable'), /the proxy passes Upgrade and Connection/)
})

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { cleanups, Program, path, startInteropNode, temporaryFolder } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { startScriptedServer } from '../helpers/scripted-server.ts'
import { until, within } from '../helpers/waiting.ts'
import { sectionsOf } from '../helpers/walkthrough.ts'

/**
 * docs/php.md, "Another WebSocket client in PHP": each block as it is printed. No system has these libraries as packages, and two
 * of them share a namespace, so that each has a variable of its own: the `autoload.php` of a project that requires the library;
 * for Swoole the extension, `swoole` or the path of `swoole.so`.
 */
const LIBRARIES: Record<string, { variable: string; says: string; answersWithMessage?: boolean }> = {
  'phrity/websocket': { variable: 'PHP_PHRITY', says: 'closed: 4403' },
  'textalk/websocket': { variable: 'PHP_TEXTALK', says: 'closed: 4403', answersWithMessage: true },
  'ratchet/pawl': { variable: 'PHP_PAWL', says: 'closed: 4403 locked' },
  'amphp/websocket-client': { variable: 'PHP_AMPHP', says: 'closed: 4403' },
  Swoole: { variable: 'PHP_SWOOLE', says: 'closed: 4403' },
}
const TOPIC = 'push:channel:orders'

const section = sectionsOf(readFileSync(path('docs/php.md'), 'utf8')).find(
  ({ heading }) => heading === 'Another WebSocket client in PHP',
)!
const [begin, ...blocks] = section.steps.filter(({ lang }) => lang === 'php')

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

/** Runs a block against whatever listens on the port. */
function start(t: TestContext, name: string, port: number): Program {
  const library = process.env[LIBRARIES[name]!.variable]!
  const block = blocks.find(({ prose }) => prose.startsWith(`**${name}**`))!
  const isExtension = name === 'Swoole'
  const code = `<?php
require '${path('php/autoload.php')}';
${isExtension ? '' : `require '${library}';`}
$redis = new Redis();
$redis->connect('127.0.0.1', ${redis.port});
$publisher = FastifyPushBridge\\Publisher::redis($redis);
${begin!.code}${block.code}`
  const file = join(temporaryFolder(t), 'client.php')
  writeFileSync(file, code.replaceAll(/\b3000\b/g, `${port}`))
  return new Program(t, 'php', [...(isExtension ? ['-d', `extension=${library}`] : []), file])
}

test('every block has a library that runs it', () => {
  assert.deepEqual(
    blocks.map(({ prose }) => /\*\*(.+?)\*\*/.exec(prose)?.[1]),
    Object.keys(LIBRARIES),
  )
})

for (const [name, { variable, says, answersWithMessage }] of Object.entries(LIBRARIES)) {
  const skip = !process.env[variable] && `${variable} names no ${name}`

  test(`${name}: subscribes, gets what is published, and ends with the connection`, { skip }, async t => {
    const node = await startInteropNode(t, redis.url)
    const publish = (text: string) => redis.admin.publish(TOPIC, text)
    for (const end of ['closed', 'killed']) {
      const program = start(t, name, node.port)
      // Behind its last line.
      const closed = new Promise(resolve => program.process.once('close', resolve))
      const said = () => `${end}: ${program.lines.join('\n')}`
      // A node listens to the topic while one of its connections does.
      await until(async () => (await publish('{"type":"early"}')) > 0, said)
      await publish('{"type":"order.created","payload":{"id":8,"note":"Käse"}}')
      await program.line(/^\{"id":8,"note":"K\\u00e4se"\}$/)
      if (end === 'killed') {
        await node.program.stop('SIGKILL')
        await within(closed, said)
      } else {
        await redis.admin.publish('push:user:worker', '{"control":"close","code":4403,"reason":"locked"}')
        await within(closed, said)
        assert.ok(program.lines.includes(says), said())
        await until(async () => (await publish('{"type":"early"}')) === 0, said)
      }
    }
  })

  test(`${name}: answers pings`, { skip }, async t => {
    const server = await startScriptedServer(t)
    const program = start(t, name, server.port)
    const visit = await server.next()
    assert.match(visit.url.search, /^\?ticket=\w{32,}$/)
    visit.welcome()
    const { type, payload, ref } = await visit.messages.take()
    assert.deepEqual([type, payload, ref], ['subscribe', { topic: 'channel:orders' }, 1])
    visit.say('subscribed', { topic: 'channel:orders' }, { ref })
    for (let n = 0; n < 3; n++) {
      // Empty, as the pings of nodes are: one of the libraries cannot answer that.
      if (answersWithMessage) {
        visit.write(Buffer.from([0x89, 0]))
        assert.deepEqual(await visit.messages.take(), { type: 'ping' })
      } else await visit.ping('')
      visit.say('order.created', n, { topic: 'channel:orders' })
      await program.line(new RegExp(`^${n}$`))
    }
  })
}

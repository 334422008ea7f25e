import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Listener } from '../helpers/listener.ts'
import { Program, path, temporaryFolder } from '../helpers/processes.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { START, until } from '../helpers/waiting.ts'

test('a push that a PHP request publishes belongs to the trace of that request', async t => {
  const redis = await startRedis(t)
  const example = new Program(t, process.execPath, ['--import', 'tsx', path('example/tracing.ts')], {
    env: { REDIS_URL: redis.url, PORT: '0', NODE_TEST_CONTEXT: undefined },
    stopWith: 'SIGTERM',
  })
  const url = (await example.line(/^connect to ws:/, START)).slice('connect to '.length)
  const listener = new Listener(t, url)
  await listener.next('welcome')

  // What the documents say to write, for everybody instead of one user.
  const [, code] = /## Tracing\n[\s\S]*?```php\n([\s\S]*?)```/.exec(readFileSync(path('docs/operations.md'), 'utf8'))!
  const file = join(temporaryFolder(t), 'publish.php')
  const connect = `$redis = new Redis(); $redis->connect('127.0.0.1', ${redis.port});`
  writeFileSync(file, `<?php\n${connect}\n${code!.replace('push:user:42', 'push:all')}`)
  const port = await freePort()
  const php = new Program(t, 'php', ['-S', `127.0.0.1:${port}`, file])
  await php.line(/Development Server .* started/)

  const [trace, span] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7']
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { traceparent: `00-${trace}-${span}-01` } })
  assert.deepEqual([response.status, await response.text()], [200, ''])
  assert.deepEqual((await listener.next('order.created')).payload, { id: 7 })
  await until(
    () => example.lines.includes('}'),
    () => `a span: ${example.lines.join('\n')}`,
  )
  const printed = example.lines.join('\n')
  assert.match(printed, new RegExp(`parentSpanContext: \\{\\s+traceId: '${trace}',\\s+spanId: '${span}'`))
  assert.match(printed, /'push.written': 1/)
})

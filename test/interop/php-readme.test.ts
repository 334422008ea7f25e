import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Finished, Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { START, until } from '../helpers/waiting.ts'

const KEY = 'a-long-random-key'

const blocks = [...readFileSync(path('php/README.md'), 'utf8').matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]

/** The blocks of a language, in order. */
const blocksOf = (language: string) => blocks.filter(([, name]) => name === language).map(([, , code]) => code!)

test('php/README.md: from nothing to the first message, as it is written', async t => {
  const folder = temporaryFolder(t)
  const project = join(folder, 'project')
  mkdirSync(project)
  symlinkSync(path(''), join(folder, 'fastify-push-bridge'))
  const [redis, port, backendPort] = [await startRedis(t), await freePort(), await freePort()]
  const here = (code: string) => code.replaceAll('6379', `${redis.port}`).replaceAll(/\b3000\b/g, `${port}`)
  const [install, serve] = blocksOf('bash') as [string, string]
  const [listen, publish, record, verify] = blocksOf('php') as [string, string, string, string]
  assert.equal(blocks.length, 6, 'a block that no test runs')

  // No registry is asked: the package needs nothing but PHP.
  const composer = {
    COMPOSER_DISABLE_NETWORK: '1',
    COMPOSER_ALLOW_SUPERUSER: '1',
    COMPOSER_NO_AUDIT: '1',
    COMPOSER_HOME: folder,
  }
  writeFileSync(join(project, 'composer.json'), '{}')
  succeeded(await run('bash', ['-e', '-c', install], { cwd: project, env: composer }))

  const command = here(serve).replace(
    'npx fastify-push-bridge',
    `exec ${process.execPath} --import tsx ${path('src/cli.ts')}`,
  )
  assert.notEqual(command, here(serve))
  const server = new Program(t, 'bash', ['-c', command], { env: { PORT: `${port}` } })
  await server.line(/listening/i, START)

  const write = (name: string, code: string) => {
    writeFileSync(join(project, name), here(code))
    return join(project, name)
  }
  const files = [write('listen.php', listen), write('publish.php', publish), write('record.php', record)] as const
  const listener = new Program(t, 'bash', ['-c', `cd ${project} && exec php ${files[0]}`])
  const php = (file: string) => run('php', [file], { cwd: project, env: { PUSH_API_KEY: KEY } })
  let said = ''
  await until(
    async () => {
      said = succeeded(await php(files[1]))
      return said.startsWith('delivered to 1')
    },
    () => `${said}${listener.lines.join('\n')}`,
  )
  assert.equal(said, 'delivered to 1 connections on 1 nodes\n')
  await listener.line(/^notice: hi$/)
  assert.equal(succeeded(await php(files[2])), 'number 1, published once\n')

  write('verify.php', verify)
  const backend = ['-S', `127.0.0.1:${backendPort}`, '-t', project, join(project, 'verify.php')]
  const web = new Program(t, 'bash', ['-c', `cd ${project} && exec php ${backend.join(' ')}`], {
    env: { BACKEND_SECRET: 'one,two' },
  })
  await web.line(/started/)
  const body = '{"id":"1","kind":"connect","time":1,"node":"n"}'
  const seconds = Math.floor(Date.now() / 1000)
  const v1 = createHmac('sha256', 'two').update(`${seconds}.${body}`).digest('hex')
  const ask = (signature: string) =>
    fetch(`http://127.0.0.1:${backendPort}/`, { method: 'POST', body, headers: { 'push-signature': signature } })
  assert.equal(await (await ask(`t=${seconds},v1=${v1}`)).text(), '{"user":"42"}')
  assert.equal((await ask(`t=${seconds},v1=${v1.replace(/./, 'x')}`)).status, 500)
})

function succeeded({ code, stdout, stderr }: Finished): string {
  assert.equal(code, 0, `${stdout}${stderr}`)
  return stdout
}

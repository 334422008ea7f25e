import assert from 'node:assert/strict'
import { test } from 'node:test'
import { descriptorProblem, maxDescriptors, parseLimits } from '../../src/node/descriptors.ts'
import { buildPush } from '../helpers/app.ts'
import { path, run } from '../helpers/processes.ts'
import { START } from '../helpers/waiting.ts'

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units     
Max processes             127000               127000               processes 
Max open files            1024                 1048576              files     
`

test('what Linux says of descriptors, and what it says elsewhere', () => {
  assert.equal(parseLimits(LIMITS), 1024)
  assert.equal(parseLimits(LIMITS.replace('1024 ', 'unlimited ')), undefined)
  assert.equal(parseLimits('nothing of the kind'), undefined)
  assert.equal(maxDescriptors('/no/such/file'), undefined)
})

test('who has too few is told how many are needed, and how to get them', () => {
  assert.equal(descriptorProblem(1000, undefined), undefined)
  assert.equal(descriptorProblem(1000, 1100), undefined)
  assert.match(descriptorProblem(1000, 1099)!, /may open 1099 .*limits\.connections \(1000\).* 1100 with LimitNOFILE=/)
})

test('at boot: a warning where there are too few descriptors, and none where there are enough', async t => {
  const isWarning = ({ msg }: { msg: string }) => msg.startsWith('push: too few descriptors')
  const enough = await buildPush(t, { limits: { connections: 10 } })
  assert.equal(enough.log.some(isWarning), false)
  if (maxDescriptors() === undefined) return t.diagnostic('this system does not say how many there may be')
  const code = `
    const Fastify = (await import('fastify')).default
    const pushBridge = (await import('./src/index.ts')).default
    const app = Fastify({ logger: true })
    await app.register(pushBridge, { path: '/ws' })
    await app.ready()
    await app.close()`
  const command = `ulimit -n 512; exec ${process.execPath} --import tsx --input-type=module -e "$CODE"`
  const {
    code: exit,
    stdout,
    stderr,
  } = await run('bash', ['-c', command], { env: { CODE: code }, cwd: path('') }, START)
  assert.equal(exit, 0, stderr)
  const [line] = stdout
    .split('\n')
    .filter(Boolean)
    .map(text => JSON.parse(text))
    .filter(isWarning)
  assert.deepEqual([line?.level, /may open 512 descriptors/.test(line?.msg)], [40, true], stdout)
})

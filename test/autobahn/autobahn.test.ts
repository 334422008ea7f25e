import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { WebSocketServer } from 'ws'
import { once } from '../helpers/waiting.ts'
import { UTF8 } from './case.ts'
import { CASES, judge } from './judge.ts'
import { buildEchoes } from './node.ts'

/** A short form of `npm run test:autobahn`: the same cases without large and many messages. */
const SHORT = CASES.filter(({ isLong }) => !isLong)

test('every case has a name of its own', () => {
  const names = CASES.map(({ section, name }) => `${section}: ${name}`)
  assert.deepEqual([...new Set(names)], names)
})

test('framing: both ways in which a node sends back keep to RFC 6455 and RFC 7692', async t => {
  const { port, echoes } = await buildEchoes(t)
  for (const echo of echoes) {
    const verdicts = await judge(port, echo, SHORT)
    const failures = verdicts.flatMap(({ section, failures }) => failures.map(failure => `${section}: ${failure}`))
    assert.deepEqual(failures, [], echo.name)
    assert.equal(
      verdicts.reduce((sum, { cases }) => sum + cases, 0),
      SHORT.length,
    )
  }
})

test('a server that does not look at UTF-8 fails where that matters, and nowhere else', async t => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', skipUTF8Validation: true })
  t.after(() => server.close())
  server.on('connection', socket => {
    socket.on('error', () => {})
    socket.on('message', (data, binary) => socket.send(data, { binary }))
  })
  await once(server, 'listening')
  const { echoes } = await buildEchoes(t)
  const cases = SHORT.filter(({ section, name }) => /^[56]/.test(section) && !name.includes('in fragments of a byte'))
  const verdicts = await judge((server.address() as AddressInfo).port, echoes[0]!, cases)
  const failed = verdicts.map(({ section, failures }) => [section[0], failures.length])
  const broken = cases.filter(({ closes }) => closes?.includes(UTF8)).length
  assert.deepEqual(failed, [
    ['5', 0],
    ['6', broken],
  ])
})

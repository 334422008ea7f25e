import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { Handlers, messageName } from '../../src/client/handlers.ts'
import { connect } from '../../src/client/index.ts'
import { startScriptedServer } from '../helpers/scripted-server.ts'
import { Inbox } from '../helpers/waiting.ts'

test('a handler of one topic gets its messages alone, and only what somebody handled is acknowledged', async t => {
  const server = await startScriptedServer(t)
  const client = connect(`ws://127.0.0.1:${server.port}/ws`, { WebSocket })
  t.after(() => client.close())
  const heard = new Inbox<string>('a message')
  const put = (who: string) => (payload: unknown) => heard.put(`${who} ${payload}`)
  client.on('n', put('all'))
  const stop = client.on('n', put('a'), { topic: 'channel:a' })
  client.on('*', put('any of a'), { topic: 'channel:a' })
  const visit = await server.next()
  visit.welcome()
  const say = (type: string, payload: string, topic?: string) => visit.say(type, payload, { topic, ack: payload })

  say('n', '1', 'channel:a')
  assert.deepEqual([await heard.take(), await heard.take(), await heard.take()], ['all 1', 'a 1', 'any of a 1'])
  say('n', '2', 'channel:b')
  assert.equal(await heard.take(), 'all 2')
  say('n', '3')
  assert.equal(await heard.take(), 'all 3')
  say('m', '4', 'channel:b')
  say('m', '5', 'channel:a')
  assert.equal(await heard.take(), 'any of a 5')
  stop()
  say('n', '6', 'channel:a')
  assert.deepEqual([await heard.take(), await heard.take()], ['all 6', 'any of a 6'])

  const tokens: unknown[] = []
  while (tokens.length < 5) tokens.push(((await visit.messages.take()).payload as { token: string }).token)
  assert.deepEqual(tokens, ['1', '2', '3', '5', '6'], 'nobody has handled 4')
})

test('handlers that are gone leave nothing behind, whatever the number of topics', () => {
  const handlers = new Handlers()
  const names = handlers as unknown as { byName: Map<string, unknown> }
  for (let n = 0; n < 1000; n++) {
    const stops = [1, 2].map(() => handlers.add(messageName('n', `channel:${n}`), () => {}))
    for (const stop of [...stops, ...stops]) stop()
  }
  assert.equal(names.byName.size, 0)
  const early = handlers.add('x', () => {})
  early()
  handlers.add('x', () => {})
  early()
  assert.equal(handlers.emit('x'), true, 'a stop that is called again stops nobody else')
})

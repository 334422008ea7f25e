import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { clientHandler, type PushBridgeOptions } from '../../src/index.ts'
import { buildPush, openConnection, refusalOf } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE } from '../helpers/waiting.ts'

test('limits that share PUSH_ERR_LIMIT each have a text that names them, and a reason of their own', async t => {
  let finish = () => {}
  const options: Partial<PushBridgeOptions> = {
    limits: { topics: 1, pending: 1 },
    handlers: {
      wait: clientHandler(Type.Object({}), () => {
        return new Promise<void>(resolve => {
          finish = resolve
        })
      }),
    },
  }
  const { app } = await buildPush(t, options)
  const connection = await openConnection(app, '/ws/room')
  const refusals: string[] = []
  const refusal = async () => {
    const { code, message } = (await connection.next('error')).payload as { code: string; message: string }
    assert.equal(code, 'PUSH_ERR_LIMIT')
    refusals.push(message)
  }
  connection.send('subscribe', { topic: 'channel:b' }, 1)
  await refusal()
  connection.send('wait', {}, 2)
  connection.send('wait', {}, 3)
  await refusal()
  finish()
  await connection.next('reply')
  assert.deepEqual(refusals, [
    'a connection may have 1 topics (limits.topics)',
    '1 messages are still being handled (limits.pending)',
  ])
  assert.deepEqual(await refusedBy(app), { pending: 1, topics: 1 })
})

test('so does the rate of publications of clients', async t => {
  const { app } = await buildPush(t, {
    authenticate: () => ({ allow: [{ topics: 'channel:*', actions: ['subscribe', 'publish'] }] }),
    clientPublications: { said: { schema: Type.Object({}), rate: 1 } },
  })
  const connection = await openConnection(app, '/ws/room')
  const said = { topic: 'channel:room', type: 'said', payload: {}, echo: false }
  for (let n = 0; n < 30; n++) connection.send('push.publish', said, n)
  const answers: { type: string; payload: unknown }[] = []
  while (answers.length < 30) answers.push(await connection.next())
  const refused = answers.filter(({ type }) => type === 'error')
  assert.ok(refused.length > 0)
  for (const { payload } of refused) {
    const message = 'more than 1 publications of the type "said" a second (clientPublications["said"].rate)'
    assert.deepEqual(payload, { code: 'PUSH_ERR_LIMIT', message })
  }
  assert.deepEqual(await refusedBy(app), { publications: refused.length })
})

async function refusedBy({ push }: FastifyInstance): Promise<Record<string, number>> {
  const { metrics } = await push.status()
  const entries = Object.entries(metrics).map(([key, n]) => [/^messages_refused_total\{(.*)\}$/.exec(key)?.[1], n])
  return Object.fromEntries(entries.filter(([reason]) => reason !== undefined))
}

for (const broker of ['memory', 'Redis'] as const) {
  test(`limits.userTickets, ${broker}: a further ticket ends the oldest of the user, which is counted`, async t => {
    const redis = broker === 'Redis' && (await startRedis(t)).url
    const options = { tickets: true, authenticate: undefined as never, redis, limits: { userTickets: 2 } }
    const { app, port } = await buildPush(t, { ...options, publishTimeout: PATIENCE })
    const other = await app.push.ticket({ user: 'ben' })
    const anonymous = [await app.push.ticket({}), await app.push.ticket({}), await app.push.ticket({})]
    const own: string[] = []
    for (let n = 0; n < 4; n++) own.push(await app.push.ticket({ user: 'ann' }))
    assert.equal((await app.push.status()).metrics.tickets_ended_total, 2)
    for (const ticket of own.slice(0, 2)) {
      const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws?ticket=${ticket}`)
      assert.deepEqual([status, body?.code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
      assert.match(body!.message, /unknown, spent or too old/)
    }
    for (const ticket of [...own.slice(2), other, ...anonymous]) await openConnection(app, `/ws?ticket=${ticket}`)
    assert.equal((await app.push.status()).metrics.tickets_ended_total, 2)
  })
}

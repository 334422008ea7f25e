import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { DeadLetterQueue } from '../../../src/ingress/rabbitmq/dead-letters.ts'
import type { RabbitClient, RabbitMessage } from '../../../src/ingress/rabbitmq/library.ts'

const WHY = { code: 'PUSH_ERR_JSON', reason: 'broken JSON' }
const HEADERS = {
  'x-push-code': 'PUSH_ERR_JSON',
  'x-push-reason': 'broken JSON',
  'x-push-queue': 'source',
  'x-push-exchange': 'e',
  'x-push-routing-key': 'r',
}
const FRAME_MAX = 8192

/** What the library makes of a message before any of it is sent. */
const require = createRequire(import.meta.url)
const codec = require(join(dirname(require.resolve('rabbitmq-client')), 'codec.js')) as {
  genContentFrames(channel: number, envelope: object, body: Buffer, frameMax: number): Iterable<Buffer>
}

function queue(failure?: Error) {
  const sent: Record<string, unknown>[] = []
  const publisher = {
    on() {},
    async close() {},
    async send(envelope: Record<string, unknown>, body: Buffer) {
      if (failure) throw failure
      Array.from(codec.genContentFrames(1, envelope, body, FRAME_MAX))
      sent.push(envelope)
    },
  }
  const connect = () => ({ createPublisher: () => publisher }) as unknown as RabbitClient
  const letters = new DeadLetterQueue({ queue: 'dead', source: 'source', declare: true, connect, isOwn: false })
  const put = (headers: Record<string, unknown>) => {
    const message: RabbitMessage = { body: 'x', exchange: 'e', routingKey: 'r', messageId: 'm', headers }
    return letters.put(message, Buffer.from('x'), WHY)
  }
  return { put, sent }
}

test('a letter has the headers of the message, and why it is one', async () => {
  const { put, sent } = queue()
  await put({ mine: 'a' })
  assert.deepEqual(
    sent.map(({ headers, messageId, routingKey }) => [headers, messageId, routingKey]),
    [[{ mine: 'a', ...HEADERS }, 'm', 'dead']],
  )
})

for (const [what, value] of [
  ['long', 'a'.repeat(FRAME_MAX)],
  ['long and binary', Buffer.alloc(FRAME_MAX, 1)],
] as const) {
  test(`a letter whose headers are too ${what} for a frame goes without them, and says so`, async () => {
    const { put, sent } = queue()
    await put({ mine: value })
    assert.deepEqual(
      sent.map(({ headers, messageId }) => [headers, messageId]),
      [[{ ...HEADERS, 'x-push-headers': 'left out' }, 'm']],
    )
  })
}

test('any other failure is told', async () => {
  const { put, sent } = queue(new Error('the connection is lost'))
  await assert.rejects(put({}), /the connection is lost/)
  assert.deepEqual(sent, [])
})

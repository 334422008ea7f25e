import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildPush } from '../helpers/app.ts'
import { FrameClient, frame, TEXT } from '../helpers/frame-client.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/waiting.ts'

test('more messages before the welcome than may wait for it end with 4429, and each is counted under one reason', async t => {
  const redis = await startRedis(t)
  const { app, port } = await buildPush(t, { redis: redis.url, limits: { pending: 3 } })
  const refusals = async () => {
    const { metrics } = await app.push.status()
    return Object.fromEntries(Object.entries(metrics).filter(([name, n]) => /^messages_refused/.test(name) && n > 0))
  }
  // The welcome waits for an answer that does not come.
  redis.freeze()
  try {
    const ping = frame(0x80 | TEXT, Buffer.from('{"type":"ping"}'))
    const client = await FrameClient.open(port, '/ws', { early: Buffer.concat(Array.from({ length: 6 }, () => ping)) })
    t.after(() => client.destroy())
    await until(() => client.closeCode !== undefined, 'the close frame')
    assert.equal(client.closeCode, 4429)
    client.destroy()
    // Otherwise each look at the status would wait for how many nodes there are.
    redis.thaw()
    // The fourth is the one too many. The fifth and the sixth come too late, and the first three are never read.
    const expected = { 'messages_refused_total{rate}': 1, 'messages_refused_total{closing}': 5 }
    let seen: Record<string, number> = {}
    const isWhole = async () => {
      seen = await refusals()
      return Object.values(seen).reduce((sum, n) => sum + n, 0) >= 6
    }
    await until(isWhole, () => `six refusals: ${JSON.stringify(seen)}`)
    assert.deepEqual(seen, expected)
  } finally {
    redis.thaw()
  }
})

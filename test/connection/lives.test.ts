import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Topic } from '../../src/protocol/topic.ts'
import { type FakeTransport, published, setUp, WELCOME } from '../helpers/connection.ts'

const TOPICS: Topic[] = ['channel:x', 'channel:y', 'all']

type Step =
  | { do: 'publish'; topic: number; size: number }
  | { do: 'reply' | 'drain' | 'narrow' | 'wait'; size: number }
  | { do: 'open' | 'flush' | 'close' | 'gone' }

const size = fc.integer({ min: 0, max: 300 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('publish' as const), topic: fc.nat(2), size }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('reply', 'drain', 'narrow', 'wait'), size }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('flush' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('open' as const, 'open' as const, 'close' as const, 'gone' as const) }),
  },
)

function live(steps: readonly Step[], slowConsumer: 'close' | 'drop', framewise: 'framewise' | 'joined') {
  const node = setUp({ slowConsumer, buffer: 600, nodeBuffer: 8 * 1500 }, framewise)
  const { connection, transport, flush, writeQueue } = node
  const pushed: { n: number; topic: Topic | undefined; isTaken: boolean }[] = []
  let isGone = false
  for (const it of steps) {
    if (isGone) break
    const n = pushed.length
    if (it.do === 'publish' || it.do === 'reply') {
      if (connection.isClosing) continue
      const topic = it.do === 'publish' ? TOPICS[it.topic] : undefined
      const isTaken = topic
        ? connection.push(published(topic, n, it.size))
        : connection.send('a', { n, pad: 'x'.repeat(it.size) })
      pushed.push({ n, topic, isTaken })
    } else if (it.do === 'open') connection.open(WELCOME)
    else if (it.do === 'flush') flush()
    else if (it.do === 'narrow') transport.room = transport.isFull ? transport.room : 1 + (it.size % 3)
    else if (it.do === 'wait') for (let i = 0; i < it.size % 15; i++) writeQueue.slow.sweep()
    else if (it.do === 'drain') transport.drain(1 + (it.size % 4))
    else if (it.do === 'close') connection.close()
    else {
      connection.gone()
      isGone = true
    }
  }
  const ended = connection.isClosing
  if (!ended) {
    connection.open(WELCOME)
    transport.drain()
    flush()
  }
  connection.gone()
  const written = transport.messages.filter(({ type }) => type === 'a').map(({ payload }) => payload.n as number)
  return { ...node, pushed, written, ended }
}

/** Whether a gap that names `topic` stands where message `n` is missing: before whatever of the topic came later. */
function isTold(messages: FakeTransport['messages'], n: number, topic: Topic): boolean {
  const isOf = (m: (typeof messages)[number]) => m.type === 'a' && m.topic === topic
  const before = messages.findLastIndex(m => isOf(m) && (m.payload.n as number) < n)
  const after = messages.findIndex(m => isOf(m) && (m.payload.n as number) > n)
  const between = messages.slice(before + 1, after < 0 ? messages.length : after)
  return between.some(m => m.type === 'gap' && (m.payload.topics as string[]).includes(topic))
}

for (const slowConsumer of ['close', 'drop'] as const) {
  for (const framewise of ['joined', 'framewise'] as const) {
    test(`property: ${slowConsumer}, ${framewise}: order is kept, nothing is lost in silence, accounting returns to 0`, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
          const { pushed, written, ended, transport, writeQueue, metrics } = live(steps, slowConsumer, framewise)
          assert.deepEqual(
            written,
            written.toSorted((a, b) => a - b),
            'order',
          )
          assert.equal(new Set(written).size, written.length, 'twice')
          assert.ok(transport.texts.length === 0 || transport.texts[0] === WELCOME, 'the welcome comes first')
          assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0], 'accounting')
          const lost = pushed.filter(({ n }) => !written.includes(n))
          const counted = Object.entries(metrics.snapshot())
            .filter(([name]) => name.startsWith('messages_dropped_total'))
            .reduce((sum, [, count]) => sum + count, 0)
          if (slowConsumer === 'close') assert.equal(counted, lost.length, 'every dropped message is counted, once')
          if (ended) return
          for (const { n, topic } of lost) {
            assert.ok(topic, `reply ${n} was dropped`)
            assert.ok(isTold(transport.messages, n, topic), `no gap for ${n} on ${topic} where it is missing`)
          }
        }),
        { numRuns: 200 },
      )
    })
  }
}

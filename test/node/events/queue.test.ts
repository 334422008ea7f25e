import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { EventQueue, type Fate, type QueueParts } from '../../../src/node/events/queue.ts'
import { type EncodedEvent, EventWriter } from '../../../src/protocol/event.ts'
import { Inbox, until, within } from '../../helpers/waiting.ts'

interface Sending {
  events: readonly EncodedEvent[]
  answer(fates: readonly Fate[] | Fate): void
}

const names = ({ events }: Sending) => events.map(({ kind, json }) => (kind === 'lost' ? kind : JSON.parse(json).n))

/** A queue whose other end the test plays. */
function queueOf(t: TestContext, parts: Partial<QueueParts> = {}) {
  let numbers = 0
  const writer = new EventWriter('n1', () => ++numbers)
  const sendings = new Inbox<Sending>('a batch')
  const lost: Record<string, number> = {}
  const counts = { sent: 0 }
  const queue = new EventQueue({
    limits: { count: 100, bytes: 1_000_000 },
    batch: { count: 3, bytes: 100_000 },
    maxPause: 1,
    send: events => new Promise(answer => sendings.put({ events, answer })),
    lostEvent: reasons => writer.event('lost', null, { reasons }),
    sent: count => {
      counts.sent += count
    },
    lost: (loss, count) => {
      lost[loss] = (lost[loss] ?? 0) + count
    },
    ...parts,
  })
  t.after(() => within(queue.close(0), 'the end of a queue'))
  const push = (n: number, settle?: (isWritten: boolean) => void) =>
    queue.push(writer.event('message', null, { n }), settle)
  return { queue, sendings, lost, counts, push }
}

test('events of one turn are sent together, in order, one batch at a time', async t => {
  const { sendings, push, counts } = queueOf(t)
  for (const n of [1, 2, 3, 4]) push(n)
  const first = await sendings.take()
  assert.deepEqual(names(first), [1, 2, 3])
  push(5)
  assert.equal(sendings.size, 0)
  first.answer('written')
  const second = await sendings.take()
  assert.deepEqual(names(second), [4, 5])
  second.answer(['written', 'written'])
  await until(() => counts.sent === 5, 'all are counted')
})

test('what did not arrive is sent again with its id, until it has, before anything newer', async t => {
  const { sendings, push } = queueOf(t)
  for (const n of [1, 2, 3, 4]) push(n)
  const first = await sendings.take()
  first.answer(['written', 'again', 'again'])
  const second = await sendings.take()
  assert.deepEqual(names(second), [2, 3])
  assert.deepEqual(second.events, first.events.slice(1))
  second.answer('again')
  const third = await sendings.take()
  assert.deepEqual(third.events, second.events)
  third.answer('written')
  assert.deepEqual(names(await sendings.take()), [4])
})

test('a full queue drops what comes, says so at once, and leaves a mark in its place', async t => {
  const { sendings, push, lost } = queueOf(t, { limits: { count: 2, bytes: 1_000_000 }, batch: { count: 1, bytes: 1 } })
  const settled: [number, boolean][] = []
  const pushed = (n: number) => push(n, isWritten => settled.push([n, isWritten]))
  for (const n of [1, 2, 3, 4]) pushed(n)
  assert.deepEqual(settled, [
    [3, false],
    [4, false],
  ])
  const first = await sendings.take()
  pushed(5)
  first.answer('written')
  const second = await sendings.take()
  assert.deepEqual(names(second), [2])
  second.answer('written')
  const mark = await sendings.take()
  assert.deepEqual(names(mark), ['lost'])
  assert.deepEqual(JSON.parse(mark.events[0]!.json).reasons, { full: 3 })
  pushed(6)
  mark.answer('written')
  assert.deepEqual(names(await sendings.take()), [6])
  assert.deepEqual(lost, { full: 3 })
})

test('bytes are counted as UTF-8, and room comes back', async t => {
  const { sendings, queue, lost } = queueOf(t, { limits: { count: 100, bytes: 2000 } })
  const event = (id: string, text: string): EncodedEvent => ({ id, kind: 'message', json: JSON.stringify(text) })
  queue.push(event('a', '辣'.repeat(500)))
  queue.push(event('b', 'x'.repeat(500)))
  assert.deepEqual(lost, { full: 1 })
  const sending = await sendings.take()
  assert.deepEqual(
    sending.events.map(({ id, kind }) => (kind === 'lost' ? kind : id)),
    ['a', 'lost'],
  )
  sending.answer('written')
  await within(new Promise(resolve => setImmediate(resolve)), 'a turn')
  queue.push(event('c', 'x'.repeat(1500)))
  assert.equal((await sendings.take()).events[0]!.id, 'c')
  assert.deepEqual(lost, { full: 1 })
})

test('however long the other side is away, losses take no more memory than one mark', async t => {
  const { sendings, push } = queueOf(t, { limits: { count: 1, bytes: 1_000_000 } })
  for (let n = 0; n < 1000; n++) push(n)
  const first = await sendings.take()
  for (let n = 0; n < 1000; n++) push(n)
  first.answer('written')
  const second = await sendings.take()
  assert.deepEqual(names(second), ['lost'])
  assert.deepEqual(JSON.parse(second.events[0]!.json).reasons, { full: 1000 })
  second.answer('written')
  assert.equal(sendings.size, 0)
  assert.deepEqual(names(first), [0, 'lost'])
  assert.deepEqual(JSON.parse(first.events[1]!.json).reasons, { full: 999 })
})

test('what is refused is lost and told, and a mark that is refused leaves no other', async t => {
  const { sendings, push, lost } = queueOf(t)
  const settled: boolean[] = []
  push(1, isWritten => settled.push(isWritten))
  const first = await sendings.take()
  first.answer('refused')
  const mark = await sendings.take()
  assert.deepEqual(names(mark), ['lost'])
  mark.answer('refused')
  push(2)
  assert.deepEqual(names(await sendings.take()), [2])
  assert.deepEqual(lost, { refused: 1 })
  assert.deepEqual(settled, [false])
})

test('closing waits until all is sent', async t => {
  const { queue, sendings, push, lost } = queueOf(t)
  for (const n of [1, 2, 3, 4]) push(n)
  const closed = queue.close(60_000)
  for (const expected of [[1, 2, 3], [4]]) {
    const sending = await sendings.take()
    assert.deepEqual(names(sending), expected)
    sending.answer('written')
  }
  await within(closed, 'the end of the queue')
  assert.deepEqual(lost, {})
  push(5)
  assert.deepEqual(lost, { closed: 1 })
})

test('closing does not wait for ever: what is left is lost, and what arrived is not counted as that', async t => {
  const { queue, sendings, push, lost, counts } = queueOf(t, { maxPause: 60_000 })
  const settled: [number, boolean][] = []
  for (const n of [1, 2, 3, 4]) push(n, isWritten => settled.push([n, isWritten]))
  const sending = await sendings.take()
  sending.answer(['written', 'again', 'again'])
  const again = await sendings.take()
  await within(queue.close(10), 'the end of the queue')
  again.answer('written')
  assert.deepEqual(settled, [
    [1, true],
    [2, false],
    [3, false],
    [4, false],
  ])
  assert.deepEqual([lost, counts.sent], [{ closed: 3 }, 1])
  await within(queue.close(10), 'the end of a queue that has ended')
})

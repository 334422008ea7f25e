import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Inbox, once, publishAhead, until, within } from './helpers/waiting.ts'

const never = new Promise<never>(() => {})

test('what never comes is a sentence that says what was awaited, and what came instead', async () => {
  const heard = ['hello']
  await assert.rejects(within(never, 'an answer', 20), { message: 'not within 20 ms: an answer' })
  await assert.rejects(
    within(never, () => `goodbye, only ${heard}`, 20),
    { message: 'not within 20 ms: goodbye, only hello' },
  )
  await assert.rejects(once(new EventEmitter(), 'close', 20), {
    message: 'not within 20 ms: the event "close" of a EventEmitter',
  })
  await assert.rejects(
    until(() => heard.length > 1, 'a second word', 20),
    { message: /20 ms: a second word$/ },
  )
  await assert.rejects(
    until(() => never, 'an answer of Redis', 20),
    { message: /20 ms: an answer of Redis$/ },
  )
  await assert.rejects(new Inbox('a message').take(20), { message: 'not within 20 ms: a message' })
})

test('what fails is not waited for, and nothing is left of a wait that is over', async () => {
  const emitter = new EventEmitter()
  const failing = once(emitter, 'close')
  emitter.emit('error', new Error('broken'))
  await assert.rejects(failing, { message: 'broken' })
  await assert.rejects(within(Promise.reject(new Error('no')), 'an answer'), { message: 'no' })
  await assert.rejects(
    until(() => Promise.reject(new Error('no')), 'an answer'),
    { message: 'no' },
  )
  const inbox = new Inbox<number>('a number')
  await assert.rejects(inbox.take(10))
  inbox.put(1)
  assert.equal(await inbox.take(), 1, 'it went to somebody who waits no more')
  const coming = once(emitter, 'close')
  emitter.emit('close', 7)
  assert.deepEqual(await coming, [7])
  assert.deepEqual(emitter.eventNames(), [])
})

test('what an earlier timer ends is in time, also in a process that was busy until after the deadline', async () => {
  // As whoever looks once more at what was read before it gives something up.
  const coming = new Promise<string>(resolve => setTimeout(() => setImmediate(resolve, 'in time'), 10))
  const waiting = within(coming, 'what comes in time', 20)
  for (const end = performance.now() + 60; performance.now() < end; );
  assert.equal(await waiting, 'in time')
})

test('a publisher is never further ahead of its readers than it may, however slow they are', async () => {
  let published = 0
  let read = 0
  let furthest = 0
  let isOver = false
  const publish = async (n: number) => {
    published = n
    furthest = Math.max(furthest, n - read)
  }
  const publishing = publishAhead(publish, () => isOver, { most: 10, read: () => read })
  for (; read < 30; read++) {
    await until(() => published > read, 'a publication')
    if (read % 10 === 0) await sleep(20)
  }
  isOver = true
  assert.equal(await publishing, published)
  assert.equal(furthest, 10)
})

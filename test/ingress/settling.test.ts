import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IngressParts } from '../../src/ingress/ingress.ts'
import type { Verdict } from '../../src/ingress/intake.ts'
import { messageOf, Settling, waitingRoom } from '../../src/ingress/settling.ts'
import { until } from '../helpers/waiting.ts'

const PUBLISHED: Verdict = { outcome: 'published', isDuplicate: false }
const AWAY: Verdict = { outcome: 'failed', code: 'PUSH_ERR_BROKER_AWAY', message: 'Redis is away', isTemporary: true }
const BROKEN: Verdict = { outcome: 'failed', code: 'PUSH_ERR_UNSUPPORTED', message: 'not here', isTemporary: false }
const REFUSED: Verdict = { outcome: 'refused', code: 'PUSH_ERR_JSON', message: 'broken JSON' }

/** An intake with verdicts that are known beforehand; the last one is given for ever. */
function settling(verdicts: readonly Verdict[], tries = 3) {
  const taken: string[] = []
  const lines: { msg: string; fields: Record<string, unknown> }[] = []
  const state = { connected: true, deadLetters: 0 }
  const parts = {
    intake: {
      take: async (_body: string, key: string) => verdicts[Math.min(taken.push(key), verdicts.length) - 1]!,
      countDeadLetters: () => state.deadLetters++,
    },
    broker: {
      get connected() {
        return state.connected
      },
    },
    log: { warn: (fields: Record<string, unknown>, msg: string) => void lines.push({ msg, fields }) },
  } as unknown as IngressParts
  return { settling: new Settling(parts, { name: 'road', tries }), taken, lines, state, room: waitingRoom() }
}

test('what is published or refused is settled at once', async () => {
  const good = settling([PUBLISHED])
  assert.equal(await good.settling.settle('{}', 'a', good.room.signal), 'published')
  const bad = settling([REFUSED])
  const letter = await bad.settling.settle('{', 'a', bad.room.signal)
  assert.deepEqual(letter, { code: 'PUSH_ERR_JSON', reason: 'broken JSON' })
  assert.deepEqual([good.taken, bad.taken, bad.settling.problem], [['a'], ['a'], undefined])
})

test('an outage is waited for, however long, with one key, and told meanwhile', async () => {
  const { settling: it, taken, lines, room } = settling([AWAY, AWAY, AWAY, AWAY, PUBLISHED], 1)
  const settled = it.settle('{}', 'a', room.signal)
  await until(() => it.problem !== undefined, 'the problem')
  assert.match(it.problem!, /^a message waits, .*: Redis is away \(PUSH_ERR_BROKER_AWAY\)$/)
  assert.equal(await settled, 'published')
  assert.deepEqual([taken, it.problem], [['a', 'a', 'a', 'a', 'a'], undefined])
  assert.deepEqual(
    lines.map(({ msg, fields }) => [msg, fields.ingress, fields.code]),
    [['push: an ingress does not get on; it tries again', 'road', 'PUSH_ERR_BROKER_AWAY']],
  )
})

test('nothing is taken while the broker is known to be away', async () => {
  const { settling: it, taken, state, room } = settling([PUBLISHED])
  state.connected = false
  const settled = it.settle('{}', 'a', room.signal)
  await until(() => it.problem !== undefined, 'the problem')
  assert.deepEqual(taken, [])
  state.connected = true
  assert.equal(await settled, 'published')
})

test('a message that fails by its own fault is a dead letter after some tries', async () => {
  const { settling: it, taken, room } = settling([BROKEN, AWAY, BROKEN, BROKEN, PUBLISHED], 3)
  const settled = await it.settle('{}', 'a', room.signal)
  assert.deepEqual(settled, { code: 'PUSH_ERR_UNSUPPORTED', reason: 'not here' })
  assert.equal(taken.length, 4, 'the outage was not counted')
})

test('waiting ends with the signal, for any number of messages, and leaves them in the queue', async t => {
  const warnings: Error[] = []
  const warn = (warning: Error) => warnings.push(warning)
  process.on('warning', warn)
  t.after(() => process.off('warning', warn))
  const { settling: it, taken, room } = settling([AWAY])
  const waiting = Array.from({ length: 100 }, (_, n) => it.settle('{}', String(n), room.signal))
  await until(() => taken.length >= 100, 'all were tried')
  room.abort()
  assert.deepEqual(new Set(await Promise.all(waiting)), new Set([undefined]))
  assert.equal(await it.settle('{}', 'late', room.signal), undefined)
  assert.ok(!taken.includes('late'))
  assert.deepEqual(warnings, [])
})

test('a dead letter is put until it is there, and counted once', async () => {
  const { settling: it, lines, state, room } = settling([])
  let attempts = 0
  const put = async () => {
    if (++attempts < 3) throw new Error('no such queue')
  }
  const buried = it.bury({ code: 'PUSH_ERR_JSON', reason: 'broken' }, { to: 'the queue dead', put }, room.signal)
  await until(() => it.problem !== undefined, 'the problem')
  assert.match(it.problem!, /could not be put into the queue dead: no such queue$/)
  assert.equal(await buried, true)
  assert.deepEqual([attempts, state.deadLetters, it.problem], [3, 1, undefined])
  assert.deepEqual(lines.at(-1)!.fields, {
    ingress: 'road',
    code: 'PUSH_ERR_JSON',
    reason: 'broken',
    to: 'the queue dead',
    more: 1,
  })
})

test('what comes through meanwhile does not hide that another message is held', async () => {
  const { settling: it, room } = settling([PUBLISHED])
  const [one, other] = [waitingRoom(), waitingRoom()]
  const put = (why: string) => () => Promise.reject(new Error(why))
  const letter = { code: 'PUSH_ERR_JSON', reason: 'broken' }
  const first = it.bury(letter, { to: 'a', put: put('full') }, one.signal)
  const second = it.bury(letter, { to: 'b', put: put('gone') }, other.signal)
  await until(() => it.problem !== undefined, 'the problem')
  assert.equal(await it.settle('{}', 'key', room.signal), 'published')
  assert.match(it.problem!, /into a: full$/)
  one.abort()
  await first
  await until(() => /into b: gone$/.test(it.problem ?? ''), 'that of the other one')
  other.abort()
  await second
  assert.equal(it.problem, undefined)
})

test('a dead letter that cannot be put away stays in its queue when the road ends', async () => {
  const { settling: it, state, room } = settling([])
  const put = () => Promise.reject(new Error('full'))
  const buried = it.bury({ code: 'PUSH_ERR_JSON', reason: 'broken' }, { to: 'the queue dead', put }, room.signal)
  await until(() => it.problem !== undefined, 'the problem')
  room.abort()
  assert.equal(await buried, false)
  assert.equal(state.deadLetters, 0)
})

test('an error without a message is told by what it stands for', () => {
  assert.equal(messageOf(new AggregateError([new Error('connect ECONNREFUSED ::1:1')])), 'connect ECONNREFUSED ::1:1')
  assert.equal(messageOf(new TypeError('no')), 'no')
  assert.equal(messageOf(new RangeError()), 'RangeError')
  assert.equal(messageOf('text'), 'text')
})

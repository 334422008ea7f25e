import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command } from '../../../src/broker/redis/commands.ts'
import type { Masters } from '../../../src/broker/redis/masters.ts'
import { RemovedEntries } from '../../../src/broker/redis/removed-entries.ts'
import { RedisStreamQueue } from '../../../src/broker/redis/stream-queue.ts'

interface Owned {
  consumer: string
  idle: number
  tries: number
}

const HOUR = 60 * 60 * 1000

/** A stream and a group of Redis 6.2, as far as nodes ask for what others had: what is removed stays pending, without a name. */
class OldStream {
  readonly entries = new Map<string, string>()
  readonly pending = new Map<string, Owned>()

  /** Entries 1 to `count`, which a node had that is gone. */
  constructor(count: number) {
    for (let n = 1; n <= count; n++) {
      this.entries.set(`${n}-0`, `body ${n}`)
      this.pending.set(`${n}-0`, { consumer: 'gone', idle: 2 * HOUR, tries: 1 })
    }
  }

  readonly masters = {
    run: async (_key: string, commands: Command[]) => commands.map(command => this.#answer(command.map(String))),
  } as unknown as Masters

  #answer([name, , ...args]: string[]): unknown {
    switch (name) {
      case 'XAUTOCLAIM':
        return this.#autoclaim(args as [string, string, string, string, string, string])
      case 'XPENDING':
        return this.#owned(args)
      case 'XRANGE':
        return this.entries.has(args[0]!) ? [[args[0], ['body', this.entries.get(args[0]!)]]] : []
      case 'XACK':
        return args.slice(1).filter(id => this.pending.delete(id)).length
      case 'XCLAIM':
        return this.#claim(args)
      case 'GET':
        return null
      default:
        throw new Error(`${name} is not expected`)
    }
  }

  #autoclaim([_group, consumer, idle, cursor, _count, count]: [string, string, string, string, string, string]) {
    const from = Number.parseInt(cursor, 10)
    const due = [...this.pending].filter(([id, it]) => Number.parseInt(id, 10) >= from && it.idle >= Number(idle))
    const taken = due.slice(0, Number(count))
    const entries = taken.map(([id, it]) => {
      this.pending.set(id, { consumer, idle: 0, tries: it.tries + 1 })
      const body = this.entries.get(id)
      return body === undefined ? null : [Buffer.from(id), [Buffer.from('body'), Buffer.from(body)]]
    })
    return [Buffer.from(due[taken.length]?.[0] ?? '0-0'), entries]
  }

  /** XPENDING key group start end count [consumer] */
  #owned([_group, start, end, , consumer]: string[]) {
    return [...this.pending]
      .filter(([id, it]) => (start === '-' || (id === start && id === end)) && (!consumer || it.consumer === consumer))
      .map(([id, it]) => [id, it.consumer, it.idle, it.tries])
  }

  /** XCLAIM key group consumer 0 ids… RETRYCOUNT n JUSTID: removed entries are given too. */
  #claim([_group, consumer, _idle, ...rest]: string[]) {
    const ids = rest.filter(it => /^\d+-0$/.test(it) && this.pending.has(it))
    for (const id of ids) this.pending.set(id, { ...this.pending.get(id)!, consumer: consumer!, idle: 0 })
    return ids
  }
}

function open(stream: OldStream, consumer = 'n.1') {
  const lost: string[] = []
  const { masters } = stream
  const queue = new RedisStreamQueue(
    { masters, reading: { close() {} } as Masters, key: 'k', consumer },
    {
      stream: 'ingress',
      group: 'bridge',
      claimAfter: HOUR,
      deadLetters: 10,
      trim: true,
      created() {},
      lost: ids => void lost.push(...ids),
    },
  )
  return { queue, lost }
}

const ids = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}-0`)

for (const count of [1, 5, 100]) {
  test(`an old Redis: what was removed while a node had it is told once and acknowledged, by ${count}`, async () => {
    const stream = new OldStream(30)
    for (const id of ids(6, 15)) stream.entries.delete(id)
    const { queue, lost } = open(stream)
    const got: string[] = []
    for (let round = 0; round < 40; round++) {
      for (const { id, body, tries } of await queue.claim(count)) {
        assert.equal(String(body), stream.entries.get(id))
        assert.equal(tries, 2)
        got.push(id)
      }
    }
    assert.deepEqual(got, [...ids(1, 5), ...ids(16, 30)])
    assert.deepEqual(lost, ids(6, 15))
    assert.deepEqual([...stream.pending.keys()], got, 'nobody gets them again')
    await queue.acknowledge(got)
    assert.equal(stream.pending.size, 0)
  })
}

test('an old Redis: what this node has from before, an answer that was lost, is neither acknowledged nor told', async () => {
  const stream = new OldStream(3)
  stream.pending.set('1-0', { consumer: 'n.1', idle: 0, tries: 1 })
  stream.entries.delete('3-0')
  const { queue, lost } = open(stream)
  assert.deepEqual(
    (await queue.claim(10)).map(({ id }) => id),
    ['2-0'],
  )
  assert.deepEqual(lost, ['3-0'])
  assert.deepEqual([...stream.pending.keys()], ['1-0', '2-0'])
})

test('an old Redis: a node goes on with what is removed while it has it, and gives it back when it closes', async () => {
  const stream = new OldStream(1)
  const { queue, lost } = open(stream)
  const [message] = await queue.claim(1)
  stream.entries.delete(message!.id)
  assert.deepEqual(await queue.keep([message!.id]), new Set([message!.id]))
  await queue.close()
  assert.deepEqual(lost, [])
  stream.pending.get('1-0')!.idle = 2 * HOUR
  const other = open(stream, 'n.2')
  assert.deepEqual(await other.queue.claim(1), [])
  assert.deepEqual(other.lost, ['1-0'])
  assert.equal(stream.pending.size, 0)
})

test('what is acknowledged and trimmed while it is claimed is not taken for removed', async () => {
  const lost: string[] = []
  const removed = new RemovedEntries({
    masters: new OldStream(0).masters,
    key: 'k',
    lost: ids => void lost.push(...ids),
  })
  await removed.during(async () => {
    removed.settle(['1-0'])
    await removed.note(['1-0', '2-0'], [])
  })
  assert.deepEqual([removed.has('1-0'), removed.has('2-0')], [false, true])
  // As long as nothing is claimed nothing is remembered either.
  removed.settle(['3-0'])
  await removed.during(() => removed.note(['3-0'], []))
  assert.ok(removed.has('3-0'))
  removed.giveUp()
  assert.deepEqual(lost, ['2-0', '3-0'])
  removed.giveUp()
  assert.equal(lost.length, 2)
})

test('what Redis refuses to say is not taken for lost', async () => {
  const refused = { run: async () => [new Error('NOPERM')] } as unknown as Masters
  const removed = new RemovedEntries({ masters: refused, key: 'k', lost() {} })
  assert.deepEqual(await removed.among(['1-0']), [])
})

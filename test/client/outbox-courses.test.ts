import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type ClientError, Handlers } from '../../src/client/handlers.ts'
import type { RequestOptions } from '../../src/client/options.ts'
import { Outbox } from '../../src/client/outbox.ts'
import { Requests } from '../../src/client/requests.ts'

const LIMIT = { timeout: 120_000 }

/** Without sockets: their timers do not go together with those of node:test. */
type Step = { do: 'ask'; repeat: boolean } | { do: 'welcome'; user: string } | { do: 'lose' | 'answer' | 'tick' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), repeat: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('welcome' as const), user: fc.constantFrom('ann', 'ann', 'bob') }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('lose' as const, 'answer' as const, 'tick' as const) }) },
)

const turn = () => new Promise(resolve => setImmediate(resolve))

/** An outbox, the other end of its connection, and what became of each request. */
class Course {
  isConnected = false
  user = ''
  readonly handlers = new Handlers()
  readonly requests = new Requests(message => this.isConnected && this.write(message as never))
  readonly outbox = new Outbox(this.requests, this.handlers, () => true, { limit: 5 })
  readonly written: { n: number; user: string; ref: number }[] = []
  readonly asked: { repeat: boolean; user: string; result?: string }[] = []

  private write({ payload, ref }: { payload: number; ref: number }): true {
    this.written.push({ n: payload, user: this.user, ref })
    return true
  }

  private state(state: 'waiting' | 'closed'): void {
    this.isConnected = false
    this.requests.fail()
    this.handlers.emit('event state', { state })
  }

  take(step: Step): void {
    if (step.do === 'ask') this.ask(step.repeat)
    else if (step.do === 'welcome' && !this.isConnected) this.welcome(step.user)
    else if (step.do === 'lose' && this.isConnected) this.state('waiting')
    else if (step.do === 'answer') this.answer()
  }

  welcome(user: string): void {
    this.isConnected = true
    this.user = user
    this.handlers.emit('event welcome', { user })
  }

  private ask(repeat: boolean): void {
    const n = this.asked.length
    const entry: Course['asked'][number] = { repeat, user: this.user }
    this.asked.push(entry)
    const options: RequestOptions = { queue: { repeat } }
    this.outbox.request('x', n, options, this.isConnected ? 'open' : 'waiting').then(
      reply => {
        entry.result = `reply ${reply}`
      },
      ({ code }: ClientError) => {
        entry.result = code
      },
    )
  }

  private answer(): void {
    const open = this.written.find(({ ref }) => this.requests.get(ref))
    if (open) this.requests.get(open.ref)!.resolve(open.n)
  }

  get hasUnanswered(): boolean {
    return this.written.some(({ ref }) => this.requests.get(ref))
  }

  close(): void {
    this.state('closed')
  }
}

function check({ asked, written }: Course): void {
  const firsts = [...new Set(written.map(({ n }) => n))]
  assert.deepEqual(
    firsts,
    firsts.toSorted((a, b) => a - b),
    'sent for the first time in the order of the calls',
  )
  for (const [n, { repeat, user, result }] of asked.entries()) {
    const times = written.filter(it => it.n === n)
    assert.ok(result !== undefined, `${n} is settled`)
    if (!repeat) assert.ok(times.length <= 1, `${n} was sent ${times.length} times`)
    const users = new Set([...times.map(it => it.user), ...(user ? [user] : [])])
    assert.ok(times.length === 0 || users.size === 1, `${n} was sent for ${[...users].join(' and ')}`)
    if (result.startsWith('reply')) assert.equal(result, `reply ${n}`)
    else if (result === 'UNCONFIRMED') assert.ok(times.length > 0)
    else
      assert.ok(
        ['BUSY', 'CLOSED', 'OTHER_USER'].includes(result) && times.length === 0,
        `${n}: ${result} after ${times.length}`,
      )
  }
}

test(
  'whatever happens: in order, not twice unless asked for, for one user, bounded, and settled in the end',
  LIMIT,
  async t => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let answered = 0
    const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async steps => {
      const course = new Course()
      for (const step of steps) {
        course.take(step)
        if (step.do === 'tick') t.mock.timers.tick(20)
        await turn()
        const unsettled = course.asked.filter(({ result }) => result === undefined)
        assert.ok(unsettled.length <= 5, `${unsettled.length} are held`)
      }
      // A connection that lasts brings everything that its user may ask.
      if (!course.isConnected) course.welcome(course.user || 'ann')
      for (let quiet = 0; quiet < 3; quiet++) {
        if (course.hasUnanswered) quiet = 0
        course.take({ do: 'answer' })
        await turn()
        t.mock.timers.tick(20)
        await turn()
      }
      assert.deepEqual(
        course.asked.filter(({ result }) => result === undefined),
        [],
        'nothing waits on a connection that lasts',
      )
      answered += course.asked.filter(({ result }) => result?.startsWith('reply')).length
      course.close()
      await turn()
      check(course)
    })
    await fc.assert(property, { numRuns: 300 })
    assert.ok(answered > 100, `${answered} were answered`)
  },
)

test('whatever happens, and then the end: all are settled', LIMIT, async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const property = fc.asyncProperty(fc.array(step, { maxLength: 30 }), async steps => {
    const course = new Course()
    for (const step of steps) {
      course.take(step)
      if (step.do === 'tick') t.mock.timers.tick(20)
      await turn()
    }
    course.close()
    await turn()
    check(course)
  })
  await fc.assert(property, { numRuns: 200 })
})

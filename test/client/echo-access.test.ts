import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Access } from '../../src/client/echo/access.ts'
import { type Admission, ChannelError } from '../../src/client/echo/options.ts'
import type { Client } from '../../src/client/index.ts'

interface Question {
  names: string[]
  answer(admission: Admission): void
  fail(error: ChannelError): void
}

const turn = () => new Promise(resolve => setImmediate(resolve))

/** An open connection, and a backend whose answers come in the order that the test wants. */
function setUp(...names: string[]) {
  const questions: Question[] = []
  const told: string[] = []
  const tell = (what: string) => (name: string) => void told.push(`${what} ${name}`)
  const client = { state: 'open', welcome: { connection: '1' }, listen() {}, authenticate: async () => ({}) }
  const access = new Access(client as unknown as Client, {
    names: () => [...names],
    ask: asked =>
      new Promise((answer, fail) => {
        questions.push({ names: asked, answer, fail })
      }),
    granted: tell('granted'),
    denied: tell('denied'),
    failed: tell('failed'),
    outgrown: tell('outgrown'),
  })
  return { access, client, names, questions, told }
}

test('the answer to an older question takes nothing that a newer one gave', async () => {
  for (const status of [403, 500]) {
    const { access, questions, told } = setUp('a')
    const ticket = access.ticket()
    access.want()
    await turn()
    const [older, newer] = questions
    newer!.answer({ ticket: 'newer' })
    await turn()
    older!.answer({ ticket: 'older', denied: { a: status } })
    assert.equal(await ticket, 'older')
    access.want()
    await turn()
    assert.deepEqual([told, questions.length], [['granted a'], 2])
    access.end()
  }
})

test('nothing is told of channels that another connection has taken over', async () => {
  const { access, questions, told } = setUp('a')
  const tickets = [access.ticket(), access.ticket()] as const
  access.end()
  questions[1]!.answer({ ticket: 'late', denied: { a: 403 } })
  questions[0]!.fail(new ChannelError('no', { status: 403 }))
  assert.equal(await tickets[1], 'late')
  await assert.rejects(tickets[0], ChannelError)
  assert.deepEqual(told, [])
})

test('a channel that was left while it was asked for, and opened again, is asked for again', async () => {
  for (const status of [403, 500]) {
    const { access, names, questions, told } = setUp('a')
    access.want()
    await turn()
    names.pop()
    access.forget('a')
    questions[0]!.answer({ ticket: 'first', denied: { a: status } })
    await turn()
    names.push('a')
    access.want()
    await turn()
    assert.deepEqual([told, questions.length], [[], 2])
    access.end()
  }
})

test('of several failures one timer is left, and it ends with the connection', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { access, names, questions } = setUp('a')
  const away = new ChannelError('away', { status: 503 })
  access.want()
  await turn()
  questions[0]!.fail(away)
  await turn()
  names.push('b')
  access.want()
  await turn()
  questions[1]!.fail(away)
  await turn()
  access.end()
  t.mock.timers.tick(600_000)
  await turn()
  assert.equal(questions.length, 2)
})

test('attempts get rarer while the backend fails', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(Math, 'random', () => 1)
  const { access, questions } = setUp('a')
  access.want()
  for (const wait of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
    await turn()
    const { length } = questions
    questions.at(-1)!.answer({ ticket: 'some', denied: { a: 500 } })
    await turn()
    t.mock.timers.tick(wait - 1)
    await turn()
    assert.equal(questions.length, length)
    t.mock.timers.tick(1)
    await turn()
    assert.equal(questions.length, length + 1)
  }
  access.end()
})

test('attempts get rarer while the node takes no identity, and not for ever', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(Math, 'random', () => 1)
  const { access, client, names, questions, told } = setUp('a')
  const spent = Object.assign(new Error('the ticket is spent'), { code: 'PUSH_ERR_UNAUTHENTICATED' })
  const taken = client.authenticate
  client.authenticate = () => Promise.reject(spent)
  const askedAfter = async (wait: number) => {
    await turn()
    const { length } = questions
    questions.at(-1)!.answer({ ticket: 'some' })
    await turn()
    t.mock.timers.tick(wait - 1)
    await turn()
    assert.equal(questions.length, length)
    t.mock.timers.tick(1)
    await turn()
    assert.equal(questions.length, length + 1)
  }
  access.want()
  for (const wait of [1000, 2000, 4000]) await askedAfter(wait)
  assert.deepEqual(told, Array(3).fill('failed a'))
  client.authenticate = taken
  questions.at(-1)!.answer({ ticket: 'good' })
  await turn()
  assert.equal(told.at(-1), 'granted a')

  names.push('b')
  access.want()
  client.authenticate = () => Promise.reject(spent)
  await askedAfter(1000)
  access.end()
})

test('a backend that fails before there is a connection is told at once, and one that does not answer is not', async () => {
  const answers: [number | undefined, string[]][] = [
    [500, ['failed a']],
    [429, ['failed a']],
    [403, ['failed a']],
    [undefined, []],
  ]
  for (const [status, expected] of answers) {
    const { access, client, questions, told } = setUp('a')
    client.state = 'connecting'
    const ticket = access.ticket()
    questions[0]!.fail(new ChannelError('no', status === undefined ? {} : { status }))
    await assert.rejects(ticket, ChannelError)
    assert.deepEqual(told, expected, `${status}`)
    access.end()
  }
  // The identity of an open connection ends later, and until then its channels are heard.
  const { access, questions, told } = setUp('a')
  const ticket = access.ticket()
  questions[0]!.fail(new ChannelError('no', { status: 500 }))
  await assert.rejects(ticket, ChannelError)
  assert.deepEqual(told, [])
  access.end()
})

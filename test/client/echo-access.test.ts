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
  return { access, names, questions, told }
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

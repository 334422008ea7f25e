import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import pushBridge, { type Ingress, type IngressParts, type OpenIngress } from '../../src/index.ts'
import { Roads } from '../../src/ingress/roads.ts'
import { parseOptions } from '../../src/options/parse.ts'
import { buildPush, KEY, OPEN, openConnection } from '../helpers/app.ts'
import { within } from '../helpers/waiting.ts'

/** A road without a queue: the test puts messages on it. */
class Lane implements Ingress {
  readonly name: string
  readonly topics: readonly string[] = ['channel:*']
  readonly events: string[]
  parts: IngressParts | undefined

  constructor(name: string, events: string[] = []) {
    this.name = name
    this.events = events
  }

  open(parts: IngressParts): OpenIngress {
    this.parts = parts
    this.events.push(`open ${this.name}`)
    return {
      lag: 7,
      problem: undefined,
      close: async () => {
        this.events.push(`close ${this.name}`)
      },
    }
  }
}

test('a road of your own: what it takes reaches clients, its lag is known, and it ends before they do', async t => {
  const lane = new Lane('lane')
  const register = new Registry()
  const { app } = await buildPush(t, {
    ingress: [lane],
    metrics: { register },
    history: { 'channel:r': { size: 5, ttl: 9 } },
  })
  const connection = await openConnection(app, '/ws/r')
  const take = () => lane.parts!.intake.take('{"to":"channel:r","type":"n","payload":1}', 'a')
  assert.deepEqual(await take(), { outcome: 'published', isDuplicate: false })
  assert.deepEqual(await take(), { outcome: 'published', isDuplicate: true })
  const { payload, seq } = await connection.next('n')
  assert.deepEqual([payload, seq], [1, 1])

  const { ingress, metrics } = await app.push.status()
  assert.deepEqual(ingress, [{ name: 'lane', lag: 7, problem: undefined }])
  assert.equal(metrics['ingress_taken_total{lane}'], 2)
  const text = await register.metrics()
  assert.match(text, /^push_ingress_lag\{registration="push",ingress="lane"\} 7$/m)
  assert.match(text, /^push_ingress_published_total\{registration="push",ingress="lane"\} 2$/m)
  assert.match(text, /^push_publications_sent_total\{registration="push",source="ingress"\} 2$/m)

  void connection.closed.then(() => lane.events.push('closed'))
  const { closed } = connection
  await app.close()
  await closed
  assert.deepEqual(lane.events, ['open lane', 'close lane', 'closed'])
})

test('GET /push/status has the roads', async t => {
  const { app } = await buildPush(t, { ingress: [new Lane('lane')], api: { keys: [KEY] } })
  const answer = await app.inject({ url: '/push/status', headers: { authorization: `Bearer ${KEY}` } })
  assert.deepEqual(answer.json().ingress, [{ name: 'lane', lag: 7 }])
})

test('a road that can never work fails the start, and those that are open are closed', async () => {
  const events: string[] = []
  const broken: Ingress = {
    name: 'broken',
    topics: ['all'],
    open: () => Promise.reject(new Error('the package is not installed')),
  }
  const app = Fastify()
  await app.register(pushBridge, { ...OPEN, ingress: [new Lane('first', events), broken, new Lane('last', events)] })
  await assert.rejects(async () => app.ready(), /the package is not installed/)
  assert.deepEqual(events, ['open first', 'close first'])
  await app.close()
})

test('a road that cannot be closed keeps nothing else open', async t => {
  const events: string[] = []
  const stuck: Ingress = {
    name: 'stuck',
    topics: ['all'],
    open: () => ({ lag: undefined, problem: 'no way', close: () => Promise.reject(new Error('stuck')) }),
  }
  const { app, log } = await buildPush(t, { ingress: [stuck, new Lane('lane', events)] })
  assert.equal((await app.push.status()).ingress[0]!.problem, 'no way')
  await app.close()
  assert.deepEqual(events, ['open lane', 'close lane'])
  assert.ok(log.some(({ msg }) => msg === 'push: an ingress could not be closed'))
})

test('a road whose end never comes is left behind after a while', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const lines: { err: Error; ingress: string }[] = []
  const log = { error: (fields: { err: Error; ingress: string }) => void lines.push(fields) }
  const stuck: Ingress = {
    name: 'stuck',
    topics: ['all'],
    open: () => ({ lag: undefined, problem: undefined, close: () => new Promise(() => {}) }),
  }
  const parts = { intakeOf: () => undefined, log, closeTimeout: 1000 }
  const roads = new Roads([stuck], parts as unknown as ConstructorParameters<typeof Roads>[1])
  await roads.open()
  const closing = roads.close()
  t.mock.timers.tick(6999)
  await new Promise(resolve => setImmediate(resolve))
  assert.equal(lines.length, 0)
  t.mock.timers.tick(1)
  await within(closing, 'the end')
  assert.deepEqual(
    lines.map(({ ingress, err }) => [ingress, err.message]),
    [['stuck', 'it did not close within 7000 ms']],
  )
})

test('before the start, and at the end, the status says that a road is not open', async () => {
  const app = Fastify()
  await app.register(pushBridge, { ...OPEN, ingress: [new Lane('lane')] })
  const [road] = (await app.push.status()).ingress
  assert.match(road!.problem!, /not open/)
  assert.equal(road!.lag, undefined)
  await app.close()
})

const WRONG: [what: string, ingress: unknown, message: RegExp][] = [
  ['no list', new Lane('a'), /option ingress must be a list/],
  ['options instead of a road', [{ topics: ['all'] }], /option ingress\.0 is no road.*call streamsIngress/],
  ['nothing', [null], /option ingress\.0 is no road/],
  ['a name that is none', [Object.assign(new Lane('a b'))], /option ingress\.0\.name/],
  ['no rights', [Object.assign(new Lane('a'), { topics: [] })], /option ingress\.0\.topics must name/],
  [
    'a wrong right',
    [Object.assign(new Lane('a'), { topics: ['order:*'] })],
    /option ingress\.0\.topics cannot be used/,
  ],
  ['one name twice', [new Lane('a'), new Lane('a')], /two roads that are called "a"/],
]

for (const [what, ingress, message] of WRONG) {
  test(`option ingress: ${what} is refused`, () => {
    assert.throws(() => parseOptions({ path: '/ws', ingress }), message)
  })
}

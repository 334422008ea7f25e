import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Handlers } from '../../src/client/handlers.ts'
import type { ClientError, ClientOptions, KeptPositions, PositionStore } from '../../src/client/index.ts'
import { keptPositions } from '../../src/client/kept-positions.ts'

/** A store that remembers JSON, as sessionStorage does. */
function memory(text = 'null') {
  const saved: KeptPositions[] = []
  const store: PositionStore = {
    load: () => JSON.parse(text),
    save(kept) {
      text = JSON.stringify(kept)
      saved.push(kept)
    },
  }
  return { store, saved }
}

/** Something global that a page has and Node lacks, for one test. */
function define(t: TestContext, globals: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name)
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : Reflect.deleteProperty(globalThis, name)))
  }
}

const URL_OF_NODE = new URL('ws://127.0.0.1:1/ws?ticket=secret')

/** A page that can be hidden and left. */
function fakePage(t: TestContext) {
  const page = new EventTarget()
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible' })
  define(t, {
    document,
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
  })
  return { page, document }
}

function positionsOf(positions: ClientOptions['positions'], handlers = new Handlers()) {
  const places = keptPositions(URL_OF_NODE, { ...(positions && { positions }) }, handlers)
  places.welcomed({ topics: { all: { id: 'i0', seq: 0 } }, user: 'ann', features: [] }, () => false)
  const hear = (n: number) => places.take({ topic: 'all', id: `i${n}`, seq: n })
  const close = () => handlers.emit('event state', { state: 'closed' })
  return { places, hear, close }
}

test('writes come at most once a second, and at once when the page is hidden, left or done with', t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { page, document } = fakePage(t)
  const { store, saved } = memory()
  const { hear, close } = positionsOf(store)
  for (let n = 1; n <= 500; n++) hear(n)
  t.mock.timers.tick(999)
  assert.equal(saved.length, 0)
  t.mock.timers.tick(1)
  assert.deepEqual(saved, [{ user: 'ann', positions: { all: 'i500' } }])
  t.mock.timers.tick(10_000)
  page.dispatchEvent(new Event('pagehide'))
  assert.equal(saved.length, 1, 'nothing is written again')

  hear(501)
  page.dispatchEvent(new Event('pagehide'))
  assert.equal(saved.at(-1)!.positions.all, 'i501')
  hear(502)
  document.dispatchEvent(new Event('visibilitychange'))
  assert.equal(saved.length, 2, 'a page that is seen stays')
  document.visibilityState = 'hidden'
  document.dispatchEvent(new Event('visibilitychange'))
  assert.equal(saved.at(-1)!.positions.all, 'i502')
  hear(503)
  close()
  assert.equal(saved.at(-1)!.positions.all, 'i503')
  const { length } = saved
  page.dispatchEvent(new Event('pagehide'))
  t.mock.timers.tick(10_000)
  assert.equal(saved.length, length)
})

test('what is heard now is kept rather than what nobody has asked for since', t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const old = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`channel:${n}`, `i${n}`]))
  const { store, saved } = memory(JSON.stringify({ user: 'ann', positions: old }))
  const { hear, close } = positionsOf(store)
  hear(7)
  close()
  const { positions } = saved.at(-1)!
  assert.equal(Object.keys(positions).length, 200)
  assert.equal(positions.all, 'i7')
})

test('a store that fails is told once, and nothing else fails', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const handlers = new Handlers()
  const errors: ClientError[] = []
  const throws = (): never => {
    throw new Error('full')
  }
  const { hear } = positionsOf({ load: throws, save: throws }, handlers)
  handlers.add('event error', (error: ClientError) => errors.push(error))
  await new Promise(resolve => setImmediate(resolve))
  for (let n = 1; n < 4; n++) {
    hear(n)
    t.mock.timers.tick(1000)
  }
  assert.deepEqual(
    errors.map(({ code, message }) => [code, message]),
    [['POSITIONS', 'the positions could not be loaded']],
  )
})

test('a runtime without sessionStorage is told what to pass', t => {
  if ('sessionStorage' in globalThis) return t.skip('this one has it')
  assert.throws(() => positionsOf('session'), /pass \{ load, save \}/)
})

test('whatever was kept is read without harm', t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(console, 'error', () => {})
  const isUsable = ([topic, id]: [string, string]) =>
    /^(all|(channel|user):\S+)$/.test(topic) && typeof id === 'string' && id.length <= 200
  const corrupt = fc.oneof(
    fc.anything(),
    fc.record({
      user: fc.anything(),
      positions: fc.dictionary(fc.oneof(fc.string(), fc.constant('all')), fc.anything()),
    }),
    fc.record({
      positions: fc.dictionary(
        fc.string().map(name => `channel:${name}`),
        fc.string({ maxLength: 300 }),
      ),
    }),
  )
  fc.assert(
    fc.property(corrupt, kept => {
      const store = { load: () => kept as KeptPositions, save() {} }
      const places = keptPositions(URL_OF_NODE, { positions: store }, new Handlers())
      const ids = Object.entries(places.ids)
      assert.ok(ids.length <= 200 && ids.every(isUsable), JSON.stringify(ids))
      JSON.parse(places.forRequest(4000) || '{}')
      places.welcomed({ topics: {}, user: 'ann', features: [] }, () => false)
    }),
  )
  define(t, { sessionStorage: { getItem: () => '{"positions":', setItem() {} } })
  assert.deepEqual(keptPositions(URL_OF_NODE, { positions: 'session' }, new Handlers()).ids, {})
})

test('what the application gives counts, whoever the kept positions are of', () => {
  const store = {
    load: () => ({ user: 'ann', positions: { 'channel:a': 'of-ann', 'channel:b': 'of-ann' } }),
    save() {},
  }
  const places = keptPositions(URL_OF_NODE, { positions: store, since: { 'channel:b': 'given' } }, new Handlers())
  assert.deepEqual(places.ids, { 'channel:a': 'of-ann', 'channel:b': 'given' })
  places.welcomed({ topics: {}, user: 'bob', features: ['history'] }, topic => topic.startsWith('channel:'))
  assert.deepEqual(places.ids, { 'channel:b': 'given' })
})

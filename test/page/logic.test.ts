import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesText, clockText, durationText, millisecondsText, numberText, shortText } from '../../src/page/format.ts'
import { areaPath, HEIGHT, highestOf, linePath, niceCeiling, WIDTH } from '../../src/page/path.ts'
import { EVERY, Poll } from '../../src/page/poll.ts'
import { outcomeOf, publishBody } from '../../src/page/publication.ts'
import { RateWindow, rateOf, ratesBetween, reasonsOf } from '../../src/page/rates.ts'
import { busiestOf, type NodeReport, onePerProcess, readNodes } from '../../src/page/reports.ts'
import { POINTS, STEP, timelineOf } from '../../src/page/series.ts'

const report = (more: object = {}): NodeReport =>
  readNodes({ nodes: [{ node: 'a', registration: 'push', startedAt: 1, now: 1000, ...more }] }).nodes[0]!

const sample = (at: number, more: object = {}) => ({ at, connections: 0, received: 0, ...more })

test('numbers, sizes and times are short', () => {
  assert.deepEqual([0, 0.04, 9.94, 9.96, 12.4, 12_345, Number.NaN].map(numberText), [
    '0',
    '0',
    '9.9',
    '10',
    '12',
    '12,345',
    '–',
  ])
  assert.deepEqual([0, 999, 1000, 48_211, 999_600, 2.5e9].map(bytesText), [
    '0 B',
    '999 B',
    '1 kB',
    '48 kB',
    '1 MB',
    '2.5 GB',
  ])
  assert.deepEqual([0.44, 12.2, 999.6].map(millisecondsText), ['0.4 ms', '12 ms', '1 s'])
  assert.deepEqual([-5, 59_999, 60_000, 3_600_000, 3_900_000, 180_000_000].map(durationText), [
    '0 s',
    '59 s',
    '1 min',
    '1 h',
    '1 h 5 min',
    '2 d 2 h',
  ])
  assert.match(clockText(0), /^\d\d:\d\d:\d\d$/)
  assert.equal(clockText(1e300), '–')
  assert.equal(shortText('x'.repeat(500)).length, 40)
})

test('a report may lack everything, lie about everything and have no end', () => {
  const empty = readNodes({
    nodes: [null, [], 'x', { counters: [1], samples: {}, busiest: [7], latency: 3, now: '1' }],
  })
  assert.equal(empty.nodes.length, 4)
  assert.equal(empty.complete, false)
  for (const node of empty.nodes) {
    assert.deepEqual([node.node, node.now, node.connections, node.rss, node.latency], ['', 0, 0, 0, undefined])
  }
  const long = readNodes({ nodes: new Array(5000).fill({ samples: new Array(5000).fill({}), node: 'x'.repeat(9999) }) })
  assert.deepEqual([long.nodes.length, long.nodes[0]!.samples.length, long.nodes[0]!.node.length], [500, 240, 2000])
  assert.equal(report({ connections: Number.POSITIVE_INFINITY }).connections, 0)
  for (const answer of [undefined, null, [], '<html>', {}, { nodes: {} }])
    assert.throws(() => readNodes(answer), /nodes/)
})

test('rates of two reports: of the same process, and of what grew', () => {
  const before = report({ counters: { a_total: 10, 'b_total{x}': 4 }, cpu: 1 })
  const after = report({ now: 3000, counters: { a_total: 30, 'b_total{x}': 4, 'b_total{y}': 6 }, cpu: 2 })
  assert.deepEqual(ratesBetween(before, after), { counters: { a_total: 10, 'b_total{y}': 3 }, cpu: 0.5 })
  assert.equal(ratesBetween(after, before), undefined)
  assert.equal(ratesBetween(before, before), undefined)
  assert.equal(ratesBetween(before, { ...after, startedAt: 2 }), undefined, 'another process counts from 0')
  assert.equal(rateOf([ratesBetween(before, after)!], 'a_total', 'b_total'), 13)
})

test('rates are of the last ten seconds, and what is kept has an end', () => {
  const window = new RateWindow()
  assert.equal(window.take([report({ counters: { a: 0 } })], 0).size, 0)
  for (let second = 1; second <= 200; second++) {
    const now = [report({ now: 1000 + second * 1000, counters: { a: second <= 100 ? 0 : (second - 100) * 5 } })]
    const rates = window.take(now, second * 1000)
    if (second === 100) assert.equal(rateOf(rates.values(), 'a'), 0)
    if (second === 200) assert.equal(rateOf(rates.values(), 'a'), 5)
  }
  window.forget()
  assert.equal(window.take([report({ now: 999_999 })], 999_999).size, 0)
})

test('a node that did not answer once is measured from its own last report', () => {
  const window = new RateWindow()
  window.take([report({ counters: { a: 0 } })], 0)
  window.take([], 2000)
  assert.equal(rateOf(window.take([report({ now: 5000, counters: { a: 8 } })], 4000).values(), 'a'), 2)
})

test('reasons: of all nodes, those that happen now first, and nothing that went well', () => {
  const counters = { 'upgrades_refused_total{X}': 5, 'gaps_total{slow}': 90, deliveries_total: 7, constructor: 3 }
  const nodes = [report({ counters }), report({ node: 'b', counters })]
  const rates = new Map([['b push', { counters: { 'upgrades_refused_total{X}': 2 }, cpu: 0 }]])
  assert.deepEqual(reasonsOf(nodes, rates, 10), [
    { what: 'upgrades refused', reason: 'X', rate: 2, total: 10 },
    { what: 'gaps told', reason: 'slow', rate: 0, total: 180 },
  ])
  assert.equal(reasonsOf(nodes, rates, 1).length, 1)
})

test('topics: every node gets every publication, and has connections of its own', () => {
  const busy = (topic: string, connections: number, publications: number) => ({ topic, connections, publications })
  const nodes = [
    report({ busiest: [busy('all', 3, 10), busy('user:1', 1, 50)] }),
    report({ busiest: [busy('all', 4, 11)] }),
  ]
  assert.deepEqual(busiestOf(nodes, 5), [busy('user:1', 1, 50), busy('all', 7, 11)])
  assert.equal(busiestOf(nodes, 1).length, 1)
})

test('series: amounts are spread over their time, whoever samples when', () => {
  const at = 1_000_000_000
  const end = Math.floor(at / STEP) * STEP
  const line = (offset: number, skew: number) =>
    Array.from({ length: 120 }, (_, n) => sample(at + skew - offset - n * STEP, { received: 50, connections: 7 }))
  const one = report({ now: at, samples: line(300, 0) })
  // Its clock is an hour ahead.
  const two = report({ node: 'b', now: at + 3_600_000, samples: line(2600, 3_600_000) })
  const timeline = timelineOf([one, two], at)
  assert.equal(timeline.end, end)
  const rates = timeline.rate('received').slice(2, -1)
  assert.ok(
    rates.every(rate => Math.abs(rate! - 20) < 1e-6),
    `${rates}`,
  )
  assert.deepEqual(new Set(timeline.sum('connections').slice(2, -1)), new Set([14]))
  assert.deepEqual(new Set(timeline.most('connections').slice(2, -1)), new Set([7]))
})

test('series: registrations of one process share its memory', () => {
  const at = 10 * STEP
  const samples = [sample(at - 1, { rss: 100, connections: 1 })]
  const nodes = [report({ now: at, samples }), report({ now: at, registration: 'b', samples })]
  const timeline = timelineOf(nodes, at)
  assert.deepEqual([timeline.sumOfProcesses('rss').at(-1), timeline.sum('connections').at(-1)], [100, 2])
  assert.equal(onePerProcess(nodes).length, 1)
})

test('series: a node that is gone ends, one that is late is held, one that slept makes no slope', () => {
  const at = POINTS * STEP
  const gone = report({ now: at, samples: [sample(at - 20 * STEP - 1, { connections: 9 })] })
  const levels = timelineOf([gone], at).sum('connections')
  assert.deepEqual(levels.slice(-22, -16), [undefined, 9, 9, 9, undefined, undefined])
  const slept = report({ now: at, samples: [sample(at - 100 * STEP), sample(at - 1, { received: 30 })] })
  assert.equal(timelineOf([slept], at).rate('received')[50], undefined)
  assert.deepEqual(timelineOf([report({ now: at })], at).sum('rss'), new Array(POINTS).fill(undefined))
})

test('series: samples of the future, of never and out of order harm nothing', () => {
  const at = POINTS * STEP
  const samples = [sample(at + 1e15, { received: 5 }), sample(0), sample(-1e15, { received: 5 }), sample(at - 1)]
  for (const series of [timelineOf([report({ now: at, samples })], at).rate('received')]) {
    assert.equal(series.length, POINTS)
    assert.ok(series.every(it => it === undefined || Number.isFinite(it)))
  }
})

test('paths: the whole width, the right height, and holes stay holes', () => {
  assert.equal(linePath([0, 5, 10], 10), `M0,${HEIGHT}L${WIDTH / 2},${HEIGHT / 2}L${WIDTH},0`)
  assert.equal(linePath([undefined, 10, undefined], 10), `M${WIDTH / 2},0h.1`)
  assert.equal(linePath([10, undefined, 10], 10), `M0,0h.1M${WIDTH},0h.1`)
  assert.equal(areaPath([10, 10, undefined, 10], 10).match(/M/g)!.length, 1)
  assert.equal(linePath([], 1) + areaPath([undefined], 1), '')
  assert.equal(linePath([99, -5], 10), `M0,0L${WIDTH},${HEIGHT}`, 'nothing leaves the box')
  assert.doesNotMatch(linePath([1e300, 0.1], niceCeiling(1e300)), /NaN|Infinity/)
})

test('scales end at round numbers', () => {
  assert.deepEqual(
    [0, -1, Number.NaN, 0.22, 1, 1.01, 2.2, 42, 99, 100, 9_300].map(niceCeiling),
    [1, 1, 1, 0.25, 1, 1.2, 2.5, 50, 100, 100, 10_000],
  )
  assert.equal(highestOf([undefined, 3, 1]), 3)
})

test('what is published is what was typed, and a payload that is no JSON is said before anything is sent', () => {
  const form = { to: ' user:42 ', type: 'notice', payload: '{"n":1}', receipt: true, trace: false }
  assert.deepEqual(publishBody(form), { to: 'user:42', type: 'notice', payload: { n: 1 }, receipt: true })
  assert.deepEqual(publishBody({ ...form, payload: ' ', receipt: false, trace: true }), {
    to: 'user:42',
    type: 'notice',
    trace: true,
  })
  assert.throws(() => publishBody({ ...form, payload: '{n:1}' }), /the payload is no JSON/)
})

test('one sentence says what became of a publication', () => {
  assert.equal(outcomeOf({ nodes: 2 }), 'Published, 2 nodes listening.')
  const delivered = { nodes: 1, delivered: 3, skipped: 2, reasons: { slow: 2 }, complete: false }
  assert.equal(
    outcomeOf(delivered),
    'Delivered to 3 connections on 1 node, 2 skipped (2 slow). Not every node answered in time.',
  )
  assert.match(outcomeOf({ duplicate: true }), /before/)
})

test('polling: one question at a time, none while hidden or stopped, and as late as the server asks', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let asked = 0
  let isHidden = false
  let answer: (wait: number) => void = () => {}
  const poll = new Poll({
    ask: () => {
      asked++
      return new Promise(resolve => {
        answer = resolve
      })
    },
    isHidden: () => isHidden,
  })
  const answered = async (wait = 0) => {
    answer(wait)
    // What follows the answer runs in microtasks.
    await new Promise(setImmediate)
  }
  poll.start()
  poll.wake()
  t.mock.timers.tick(10 * EVERY)
  assert.equal(asked, 1, 'no second question before the answer')
  await answered()
  t.mock.timers.tick(EVERY - 1)
  assert.equal(asked, 1)
  t.mock.timers.tick(1)
  assert.equal(asked, 2)
  await answered(5 * EVERY)
  t.mock.timers.tick(5 * EVERY - 1)
  assert.equal(asked, 2, 'Retry-After')
  isHidden = true
  t.mock.timers.tick(100 * EVERY)
  assert.equal(asked, 2, 'nobody looks')
  isHidden = false
  poll.wake()
  assert.equal(asked, 3)
  poll.stop()
  await answered()
  t.mock.timers.tick(100 * EVERY)
  assert.equal(asked, 3, 'stopped')
})

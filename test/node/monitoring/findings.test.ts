import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findingsOn } from '../../../src/node/monitoring/findings.ts'
import type { Explanation, TopicReport } from '../../../src/node/monitoring/report-schemas.ts'

const NOW = Date.UTC(2026, 0, 1)

const node = (more: Partial<TopicReport> = {}): TopicReport => ({
  node: 'n1',
  registration: 'push',
  now: NOW,
  draining: false,
  connected: true,
  lag: 0,
  connections: 0,
  members: [],
  publications: [],
  dropped: {},
  ...more,
})

const explain = (more: Partial<Explanation> = {}): string[] => {
  const nodes = more.nodes ?? [node()]
  return findingsOn({
    topic: 'channel:a',
    now: NOW,
    expected: nodes.length,
    complete: true,
    history: null,
    rejected: [],
    ...more,
    nodes,
  })
}

const came = { at: NOW, type: 'notice', delivered: 2, skipped: {} }

test('nobody is there', () => {
  assert.deepEqual(explain(), ['No node has the topic: nobody is subscribed.'])
  assert.match(explain({ topic: 'user:42' })[0]!, /^No node has a connection of this user/)
  assert.match(explain({ topic: 'connection:x' })[0]!, /^No node has this connection: it is closed/)
  assert.match(explain({ nodes: [], expected: 0 })[0]!, /^No node runs with this Redis and this prefix/)
})

test('who did not answer is told first, since the answer may be there', () => {
  const [first, second] = explain({ expected: 3, complete: false })
  assert.match(first!, /^2 of 3 nodes did not answer in time/)
  assert.match(second!, /^No node that answered has the topic/)
  assert.match(explain({ nodes: [], expected: 1, complete: false })[0]!, /^The node did not answer in time/)
  const { expected: _expected, ...alone } = { expected: undefined, complete: false, problem: 'ECONNREFUSED' }
  assert.match(explain(alone)[0]!, /^Other nodes could not be asked: ECONNREFUSED\.$/)
})

test('what is wrong with a node that has the topic', () => {
  const one = (more: Partial<TopicReport>) => explain({ nodes: [node({ connections: 2, ...more })] })[0]!
  assert.equal(
    one({ connected: false, problem: 'ECONNREFUSED', cutOffSince: NOW }),
    'Node n1 has the topic but is cut off from Redis since 2026-01-01T00:00:00.000Z: ECONNREFUSED. Its clients get a gap when it is back.',
  )
  assert.match(one({ refused: true }), /^Redis refuses the topic to node n1/)
  assert.match(one({ filling: true }), /^Node n1 reads what it missed/)
  assert.match(one({ lag: 2500 }), /^Node n1 is 2.5 s behind/)
  assert.match(one({ draining: true, registration: 'b' }), /^Node n1 \(b\) is draining/)
  assert.match(one({ problem: 'Redis refuses RPUSH' }), /^Node n1: Redis refuses RPUSH\.$/)
  const member = {
    id: 'c',
    user: null,
    since: NOW,
    connected: NOW,
    queuedBytes: 5000,
    stalled: true,
    lastSeen: NOW - 9000,
  }
  assert.match(
    one({ members: [member] }),
    /^1 of 2 connections on node n1 accept no more data: up to 5000 bytes wait.* 9 s ago/,
  )
  assert.match(one({ dropped: { slow_consumer: 3 } }), /gave up 3 times .* read too slowly/)
  assert.match(one({ dropped: { overload: 4 } }), /dropped 4 publications of the topic, .* \(overload\)\.$/)
  assert.match(one({ dropped: { rate: 1 } }), /closed 1 connections of the topic that sent too many messages \(rate\)/)
  assert.match(one({ dropped: { user_connections: 1 } }), /refused 1 connections of the user/)
  assert.match(one({ dropped: { later: 2 } }), /applied a limit 2 times \(later\)/)
})

test('who was refused the topic, the newest first, and no more than a person reads', () => {
  const refusal = (n: number, more = {}) => ({
    at: NOW + n,
    user: `${n}`,
    connection: `c${n}`,
    code: 'PUSH_ERR_FORBIDDEN',
    message: 'channel:a was refused by authorize()',
    times: 1,
    ...more,
  })
  const refusing = (...refusals: ReturnType<typeof refusal>[]) => explain({ nodes: [node({ refusals })] })
  assert.deepEqual(refusing(refusal(0)), [
    'No node has the topic: nobody is subscribed.',
    'Node n1 refused the topic to user 0 at 2026-01-01T00:00:00.000Z: channel:a was refused by authorize() (PUSH_ERR_FORBIDDEN).',
  ])
  assert.match(
    refusing(refusal(0, { user: null, times: 3 }))[1]!,
    /to the anonymous connection c0 3 times lately, the last time at 2026/,
  )
  const early = { ...refusal(0, { user: null }), connection: undefined } as never
  assert.match(refusing(early)[1]!, /to an anonymous client at 2026/)
  const other = node({ node: 'n2', refusals: [refusal(9)] })
  const many = explain({ nodes: [node({ refusals: [4, 3, 2, 1].map(n => refusal(n)) }), other] })
  assert.deepEqual(
    many.slice(1).map(it => it.match(/^Node \w+ refused the topic to user \d|^.*/)![0]),
    [
      'Node n2 refused the topic to user 9',
      'Node n1 refused the topic to user 4',
      'Node n1 refused the topic to user 3',
      '2 more clients were refused the topic lately.',
    ],
  )
})

test('what became of the last publication, on all nodes together', () => {
  const first = node({ connections: 2, publications: [came] })
  const skipping = { ...came, delivered: 1, at: NOW + 5, skipped: { except: 1, slow: 2 } }
  const second = node({ node: 'n2', connections: 4, publications: [skipping] })
  assert.deepEqual(explain({ nodes: [first] }), [
    'The last publication (notice) came at 2026-01-01T00:00:00.000Z and was queued for 2 connections.',
  ])
  assert.match(
    explain({ nodes: [first, second] })[0]!,
    /was queued for 3 connections; skipped: 1 that the publisher excepted, 2 that read too slowly\.$/,
  )
  const rejected = node({ connections: 1, publications: [{ at: NOW, delivered: 0, skipped: {}, rejected: 'json' }] })
  assert.match(explain({ nodes: [rejected] })[0]!, /could not be used \(json\): nobody got it\.$/)
  const nothing = explain({ nodes: [node({ connections: 1 })], history: { head: { id: 'x', seq: 7 }, size: 1 } })
  assert.match(nothing[0]!, /^No node has received a publication on the topic lately although 7 were recorded before/)
  const noted = [{ at: NOW, node: 'n1', reason: 'json', message: 'the envelope is broken JSON' }]
  assert.match(
    explain({ rejected: noted })[1]!,
    /^An envelope for the topic was rejected at .* \(json\): the envelope is/,
  )
})

test('times that no clock has do no harm', () => {
  const strange = node({ connections: 1, publications: [{ ...came, at: 1e300 }] })
  assert.match(explain({ nodes: [strange] })[0]!, /an unknown time/)
})

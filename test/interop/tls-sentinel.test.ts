import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { RedisSource } from '../../src/broker/redis/client.ts'
import { brokerSuite, envelope, FakeSubscriber } from '../broker/suite.ts'
import { nodesOn } from '../helpers/broker-nodes.ts'
import { cleanups } from '../helpers/processes.ts'
import { freePort } from '../helpers/redis.ts'
import { connectTo } from '../helpers/redis-node.ts'
import { explainFailure, NAME, type RedisSentinels, startSentinels } from '../helpers/redis-sentinel.ts'
import { rightsAtSentinel, rightsOfNode } from '../helpers/rights.ts'
import { type Authority, createAuthority } from '../helpers/tls.ts'
import { until, within } from '../helpers/waiting.ts'

const SLOW = { timeout: 240_000 }
const HISTORY = { size: 100, ttl: 600 }

const all = cleanups()
let authority: Authority
let group: RedisSentinels

/** Whom Sentinels and a replica follow over TLS only, with the users that docs/redis.md prints. */
before(async () => {
  authority = await createAuthority(all)
  await authority.certify('here', 'IP:127.0.0.1,DNS:localhost')
  const tls = { ca: authority.read('ca.crt') }
  group = await startSentinels(all, {
    args: async () => [...authority.argsOf('here', await freePort()), '--tls-replication', 'yes'],
    portOf: async ({ admin }) => Number(((await admin.config('GET', 'tls-port')) as string[])[1]),
    lines: port => [
      'port 0',
      'tls-replication yes',
      `tls-port ${port}`,
      `tls-ca-cert-file ${authority.file('ca.crt')}`,
      `tls-cert-file ${authority.file('here.crt')}`,
      `tls-key-file ${authority.file('here.key')}`,
      'tls-auth-clients no',
      `user bridge on >asks ${rightsAtSentinel().join(' ')}`,
    ],
    client: { tls },
  })
  for (const { admin } of group.servers) await admin.call('ACL', 'SETUSER', 'node', ...rightsOfNode())
})

after(() => all.end())

afterEach(t => explainFailure(t, group))

function source(): RedisSource {
  const tls = { ca: authority.read('ca.crt') }
  const [username, password] = ['node', 'another-secret']
  const atSentinels = { sentinelUsername: 'bridge', sentinelPassword: 'asks', sentinelTLS: tls }
  const sentinels = group.sentinels.map(({ port }) => `localhost:${port}`)
  return { sentinels, name: NAME, username, password, tls, ...atSentinels }
}

brokerSuite(
  'sentinel, TLS, least rights',
  nodesOn(async () => ({ source: source(), admins: [(await group.settled()).admin] })),
)

test('sentinel, TLS, least rights: a failover is followed, and nothing is silent', SLOW, async t => {
  const master = await group.settled()
  const { broker } = connectTo(t, source(), { prefix: 'push:failover:', publishTimeout: 5000 })
  await within(broker.whenLive, 'the node is live')
  const subscriber = new FakeSubscriber(broker)
  await subscriber.join('channel:recorded')
  const record = (n: number) =>
    until(async () => {
      const item = {
        topic: 'channel:recorded' as const,
        envelope: envelope(n),
        history: HISTORY,
        idempotencyKey: `k${n}`,
      }
      return !((await broker.publish([item]))[0] instanceof Error)
    }, `${n} is recorded`)
  await record(1)
  assert.equal(await subscriber.text(), envelope(1))
  const other = group.servers.find(server => server !== master)!
  await until(async () => (await other.admin.dbsize()) === (await master.admin.dbsize()), 'the replica has it')
  await master.kill()
  const one = group.sentinels[0]!
  await until(async () => {
    const now = await group.master()
    if (now === master) await one.admin.call('SENTINEL', 'FAILOVER', NAME).catch(() => {})
    return now === other
  }, 'the Sentinels have another master')
  await record(2)
  await until(
    () => broker.connected,
    () => `the node is live again; ${broker.problem}`,
  )
  await record(3)
  const told: unknown[] = []
  while (!told.includes(envelope(3))) {
    const event = await subscriber.next()
    told.push('text' in event ? event.text : 'lost' in event ? event.lost : event)
  }
  // The gap stands for what the promoted replica may not have had, so 2 may be in it.
  assert.deepEqual(
    told.filter(it => it !== envelope(2)),
    ['history_replaced', envelope(3)],
  )
})

import { after, before } from 'node:test'
import { brokerSuite } from '../broker/suite.ts'
import { nodesOn } from '../helpers/broker-nodes.ts'
import { cleanups } from '../helpers/processes.ts'
import { freePort, type RedisServer } from '../helpers/redis.ts'
import { type RedisCluster, startCluster } from '../helpers/redis-cluster.ts'
import { rightsOfNode } from '../helpers/rights.ts'
import { type Authority, createAuthority, startTlsRedis } from '../helpers/tls.ts'

const all = cleanups()
let authority: Authority
let one: RedisServer
let tlsPort: number
let cluster: RedisCluster
let clusterPorts: number[]

/** The password that docs/redis.md prints. */
const USER = 'node:another-secret'

before(async () => {
  authority = await createAuthority(all)
  await authority.certify('here', 'IP:127.0.0.1,DNS:localhost')
  const started = await startTlsRedis(all, authority)
  one = started.server
  tlsPort = started.tlsPort
  await one.admin.call('ACL', 'SETUSER', 'node', ...rightsOfNode())
  const args = async () => [...authority.argsOf('here', await freePort()), '--tls-cluster', 'yes']
  cluster = await startCluster(all, { args })
  clusterPorts = await Promise.all(cluster.masters.map(tlsPortOf))
  for (const { admin } of cluster.masters) {
    await admin.call('ACL', 'SETUSER', 'node', ...rightsOfNode({ isCluster: true }))
  }
})

after(() => all.end())

async function tlsPortOf({ admin }: RedisServer): Promise<number> {
  return Number(((await admin.config('GET', 'tls-port')) as string[])[1])
}

const tls = () => ({ ca: authority.read('ca.crt') })

brokerSuite(
  'redis, TLS, least rights',
  nodesOn(() => ({
    source: { url: `rediss://${USER}@localhost:${tlsPort}`, family: 4, tls: tls() },
    admins: [one.admin],
  })),
)

brokerSuite(
  'cluster, TLS, least rights',
  nodesOn(() => ({
    source: { url: `rediss+cluster://${USER}@${clusterPorts.map(port => `127.0.0.1:${port}`).join(',')}`, tls: tls() },
    admins: cluster.masters.map(({ admin }) => admin),
  })),
)

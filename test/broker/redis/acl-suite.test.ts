import { after, before } from 'node:test'
import { nodesOn } from '../../helpers/broker-nodes.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { rightsOfNode } from '../../helpers/rights.ts'
import { brokerSuite } from '../suite.ts'

const all = cleanups()
let server: RedisServer

before(async () => {
  server = await startRedis(all)
  await server.admin.call('ACL', 'SETUSER', 'node', ...rightsOfNode())
})

after(() => all.end())

for (const protocol of [2, 3] as const) {
  brokerSuite(
    `redis, least rights, RESP${protocol}`,
    nodesOn(() => ({
      source: { host: '127.0.0.1', port: server.port, username: 'node', password: 'another-secret', protocol },
      admins: [server.admin],
    })),
  )
}

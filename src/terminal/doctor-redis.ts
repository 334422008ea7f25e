import type { Examined } from '../broker/redis/examination.ts'
import { type Finding, hint, mend, ok } from './findings.ts'

/** What Redis does by itself; less than that disconnects nodes earlier. */
const PUBSUB_LIMIT = [32 * 1024 * 1024, 8 * 1024 * 1024, 60] as const

/** A node asks every second. */
const LEAST_TIMEOUT = 5

const SLOW = 50

const LOAD = '+function|load'

/** What one server said, as sentences. */
export function redisFindings(examined: Examined): Finding[] {
  const { server, problem } = examined
  if (problem !== undefined) return [mend('redis', `${server}: ${problem}`, wayIn(problem))]
  return [
    versionOf(examined),
    ...roleOf(examined),
    speedOf(examined),
    ...rightsOf(examined),
    functionsOf(examined),
    memoryOf(examined),
    ...buffersOf(examined),
    ...persistenceOf(examined),
    ...clientsOf(examined),
    ...nodesOf(examined),
  ]
}

function wayIn(problem: string): string {
  if (/NOAUTH|WRONGPASS/.test(problem)) return 'set REDIS_USERNAME and REDIS_PASSWORD to those of the user in Redis'
  if (/certificate|self.signed|altnames/i.test(problem)) return 'set REDIS_TLS_CA to the certificate of your authority'
  if (/MOVED|cluster/i.test(problem)) return 'write redis+cluster:// in REDIS_URL for a Cluster'
  return 'check REDIS_URL, and that redis-cli PING with the same address answers from this machine'
}

function versionOf({ server, info, user }: Examined): Finding {
  const name = info.valkey_version ? 'Valkey' : 'Redis'
  const version = info.valkey_version ?? info.redis_version
  if (!version) return hint('redis', `${server}: the user may not ask for the version`, mayAsk(user))
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const found = `${name} ${version} at ${server}`
  if (name === 'Valkey' || major >= 7) return ok('redis', found)
  if (major === 6 && minor >= 2)
    return hint('redis', `${found}: recorded topics use scripts`, 'install Redis 7 or Valkey')
  return mend('redis', `${found} is too old: 6.2 is the oldest that is supported`, 'install Redis 7 or Valkey')
}

const mayAsk = (user: string) => `redis-cli ACL SETUSER ${user} '+info'`

function roleOf({ info, server }: Examined): Finding[] {
  if (info.role === 'slave') {
    const line = 'name the master in REDIS_URL, or the Sentinels in REDIS_SENTINELS'
    return [mend('role', `${server} is a replica of ${info.master_host}: nothing can be written there`, line)]
  }
  const line = `wait until redis-cli INFO persistence says loading:0`
  return info.loading === '1' ? [hint('role', `${server} still reads its data`, line)] : []
}

function speedOf({ answersIn = 0 }: Examined): Finding {
  const found = `answers in ${answersIn.toFixed(1)} ms`
  return answersIn < SLOW ? ok('speed', found) : hint('speed', found, 'redis-cli SLOWLOG GET 10, or run it nearer')
}

function rightsOf({ missing, user }: Examined): Finding[] {
  if (missing.length === 0) return [ok('rights', `the user ${user} has every right that a node needs`)]
  return missing.map(({ right, fails }) =>
    mend('rights', `the user ${user} lacks ${right}; what fails: ${fails}`, `redis-cli ACL SETUSER ${user} '${right}'`),
  )
}

function functionsOf({ library, ownLibrary, missing, user }: Examined): Finding {
  const lacks = (right: string) => missing.some(it => it.right === right)
  const about = 'functions'
  if (lacks('+fcall')) {
    const found = 'the user may not call functions: nothing is recorded, unless scripts are allowed'
    return hint(about, found, `redis-cli ACL SETUSER ${user} '+fcall' '+function|load'`)
  }
  if (library !== undefined && library >= ownLibrary) {
    const newer = library > ownLibrary ? `, of newer nodes; this is version ${ownLibrary}` : ''
    return ok(about, `version ${library}${newer}`)
  }
  if (lacks(LOAD)) {
    const found = library === undefined ? 'not loaded' : `version ${library} is older than ${ownLibrary}`
    const line = `redis-cli ACL SETUSER ${user} '${LOAD}'`
    return mend(about, `${found}, and the user ${user} may not load them: recorded topics do not work`, line)
  }
  if (library === undefined) return ok(about, 'not loaded: the first node that connects loads them')
  return ok(about, `version ${library}: a node of this version loads ${ownLibrary}`)
}

function memoryOf({ info, user }: Examined): Finding {
  const { maxmemory = '0', maxmemory_policy: policy } = info
  if (policy === undefined) return hint('memory', 'not known: the user may not ask', mayAsk(user))
  if (policy === 'noeviction') return ok('memory', `maxmemory-policy ${policy}`)
  const found = `maxmemory-policy ${policy}: a full Redis evicts tickets, receipts and histories`
  const line = 'redis-cli CONFIG SET maxmemory-policy noeviction'
  return maxmemory === '0' ? hint('memory', `${found}, once maxmemory is set`, line) : mend('memory', found, line)
}

function buffersOf({ config }: Examined): Finding[] {
  const about = 'buffers'
  const limit = config?.['client-output-buffer-limit']
  const [, ...numbers] = /pubsub (\d+) (\d+) (\d+)/.exec(limit ?? '') ?? []
  if (numbers.length === 0) {
    const found = 'client-output-buffer-limit and timeout are not known: the user may not ask, and no node needs to'
    return [hint(about, found, 'redis-cli CONFIG GET client-output-buffer-limit')]
  }
  const found = `client-output-buffer-limit pubsub ${numbers.join(' ')}`
  const isLess = numbers.some((number, i) => Number(number) > 0 && Number(number) < PUBSUB_LIMIT[i]!)
  const line = `redis-cli CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'`
  const first = isLess ? mend(about, `${found}: a node that is behind is disconnected early`, line) : ok(about, found)
  const timeout = Number(config?.timeout ?? 0)
  if (timeout === 0 || timeout > LEAST_TIMEOUT) return [first]
  return [first, mend(about, `timeout ${timeout}: links of nodes are closed`, 'redis-cli CONFIG SET timeout 0')]
}

function persistenceOf({ info }: Examined): Finding[] {
  const { aof_enabled: aof, rdb_last_bgsave_status: saved } = info
  if (aof === undefined) return []
  const failed =
    saved === 'err' ? [mend('persistence', 'the last save of Redis failed', 'redis-cli BGSAVE, and see its log')] : []
  if (aof === '1') return [...failed, ok('persistence', 'appendonly yes')]
  const found = 'appendonly no: recorded messages since the last save are lost when Redis ends'
  return [...failed, hint('persistence', found, 'redis-cli CONFIG SET appendonly yes')]
}

function clientsOf({ info }: Examined): Finding[] {
  const [now, most] = [Number(info.connected_clients), Number(info.maxclients)]
  if (!(most > 0) || now < most * 0.8) return []
  return [mend('clients', `${now} of ${most} clients are connected`, `redis-cli CONFIG SET maxclients ${most * 2}`)]
}

function nodesOf({ nodes }: Examined): Finding[] {
  if (nodes === undefined) return []
  if (nodes > 0) return [ok('nodes', `${nodes} listen there`)]
  const found = 'none listens there: none runs, or it has another Redis or another prefix (REDIS_PREFIX)'
  return [hint('nodes', found, 'fastify-push-bridge serve, with the same REDIS_URL and REDIS_PREFIX')]
}

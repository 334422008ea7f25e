import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIBRARY_VERSION } from '../../src/broker/redis/functions.ts'
import { versionFindings } from '../../src/terminal/doctor-nodes.ts'
import { redisFindings } from '../../src/terminal/doctor-redis.ts'

type Examined = Parameters<typeof redisFindings>[0]

/** A server with which nothing is wrong. */
const WELL: Examined = {
  server: 'redis:6379',
  user: 'node',
  answersIn: 0.4,
  info: {
    redis_version: '7.0.15',
    role: 'master',
    loading: '0',
    maxmemory: '0',
    maxmemory_policy: 'noeviction',
    aof_enabled: '1',
    rdb_last_bgsave_status: 'ok',
    connected_clients: '10',
    maxclients: '10000',
  },
  config: { 'client-output-buffer-limit': 'normal 0 0 0 slave 0 0 0 pubsub 33554432 8388608 60', timeout: '0' },
  missing: [],
  library: LIBRARY_VERSION,
  ownLibrary: LIBRARY_VERSION,
  nodes: 2,
}

/** The same, with other lines of INFO; undefined: not said. */
const info = (lines: Record<string, string | undefined>): Partial<Examined> => ({
  info: Object.fromEntries(
    Object.entries({ ...WELL.info, ...lines }).filter((line): line is [string, string] => line[1] !== undefined),
  ),
})
const config = (lines: Record<string, string>): Partial<Examined> => ({ config: { ...WELL.config, ...lines } })
const lacks = (...rights: string[]): Partial<Examined> => ({ missing: rights.map(right => ({ right, fails: 'much' })) })
const without = (...keys: (keyof Examined)[]): Partial<Examined> =>
  Object.fromEntries(keys.map(key => [key, undefined])) as Partial<Examined>

const LOADS = "redis-cli ACL SETUSER node '+function|load'"

/** What one thing that is wrong with a server makes of its findings. */
const CASES: [what: string, wrong: Partial<Examined>, about: string, level: string, found: RegExp, line: RegExp][] = [
  ['too old', info({ redis_version: '6.0.16' }), 'redis', 'mend', /6\.0\.16 .* is too old/, /^install Redis 7/],
  ['without functions', info({ redis_version: '6.2.7' }), 'redis', 'hint', /use scripts/, /^install Redis 7/],
  ['no INFO', { info: {} }, 'redis', 'hint', /may not ask for the version/, /^redis-cli ACL SETUSER node '\+info'$/],
  ['no INFO', { info: {} }, 'memory', 'hint', /may not ask/, /^redis-cli ACL SETUSER node '\+info'$/],
  ['a replica', info({ role: 'slave', master_host: 'm' }), 'role', 'mend', /is a replica of m/, /REDIS_SENTINELS/],
  ['loading', info({ loading: '1' }), 'role', 'hint', /still reads its data/, /^wait until/],
  ['far away', { answersIn: 80 }, 'speed', 'hint', /answers in 80\.0 ms/, /^redis-cli SLOWLOG GET 10/],
  [
    'a right',
    lacks('+getdel'),
    'rights',
    'mend',
    /lacks \+getdel; what fails: much/,
    /^redis-cli ACL SETUSER node '\+getdel'$/,
  ],
  [
    'no FCALL',
    { ...lacks('+fcall'), ...without('library') },
    'functions',
    'hint',
    /may not call functions/,
    /'\+fcall' '\+function\|load'$/,
  ],
  [
    'no functions, and no right to load them',
    { ...lacks('+function|load'), ...without('library') },
    'functions',
    'mend',
    /^not loaded, and the user node may not load them/,
    new RegExp(`^${LOADS.replace(/[+|]/g, '\\$&')}$`),
  ],
  [
    'old functions, and no right to load others',
    { ...lacks('+function|load'), library: LIBRARY_VERSION - 1 },
    'functions',
    'mend',
    /^version \d+ is older than \d+, and the user node may not load them/,
    new RegExp(`^${LOADS.replace(/[+|]/g, '\\$&')}$`),
  ],
  ['evicts later', info({ maxmemory_policy: 'allkeys-lru' }), 'memory', 'hint', /once maxmemory is set/, /noeviction$/],
  ['evicts', info({ maxmemory_policy: 'allkeys-lru', maxmemory: '1' }), 'memory', 'mend', /histories$/, /noeviction$/],
  [
    'small buffers',
    config({ 'client-output-buffer-limit': 'pubsub 1048576 1048576 10' }),
    'buffers',
    'mend',
    /disconnected early/,
    /^redis-cli CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'$/,
  ],
  ['no CONFIG', without('config'), 'buffers', 'hint', /are not known/, /^redis-cli CONFIG GET/],
  ['not durable', info({ aof_enabled: '0' }), 'persistence', 'hint', /^appendonly no/, /CONFIG SET appendonly yes$/],
  [
    'not saved',
    info({ rdb_last_bgsave_status: 'err' }),
    'persistence',
    'mend',
    /last save of Redis failed/,
    /^redis-cli BGSAVE/,
  ],
  [
    'nearly full',
    info({ connected_clients: '8000' }),
    'clients',
    'mend',
    /^8000 of 10000 clients are connected$/,
    /^redis-cli CONFIG SET maxclients 20000$/,
  ],
  ['nobody', { nodes: 0 }, 'nodes', 'hint', /^none listens there/, /^fastify-push-bridge serve/],
]

for (const [what, wrong, about, level, found, line] of CASES) {
  test(`doctor, a server of Redis: ${what}: ${about}`, () => {
    const findings = redisFindings({ ...WELL, ...wrong })
    const [finding, ...more] = findings.filter(it => it.about === about && it.level !== 'ok')
    assert.ok(finding && more.length === 0, JSON.stringify(findings))
    assert.equal(finding.level, level)
    assert.match(finding.found, found)
    assert.match(finding.mend!, line)
    for (const { mend, level } of findings) assert.equal(mend !== undefined, level !== 'ok', JSON.stringify(findings))
  })
}

test('doctor, a server of Redis: everything is well, and nothing is to be done', () => {
  const findings = redisFindings(WELL)
  const abouts = ['redis', 'speed', 'rights', 'functions', 'memory', 'buffers', 'persistence', 'nodes']
  assert.deepEqual(
    findings.map(({ about }) => about),
    abouts,
  )
  assert.ok(
    findings.every(({ level, mend }) => level === 'ok' && mend === undefined),
    JSON.stringify(findings),
  )
  const of = (more: Partial<Examined>, about: string) =>
    redisFindings({ ...WELL, ...more }).find(it => it.about === about)!
  assert.match(of({ library: LIBRARY_VERSION + 1 }, 'functions').found, /of newer nodes/)
  assert.match(of({ library: LIBRARY_VERSION - 1 }, 'functions').found, /a node of this version loads/)
  assert.match(of(without('library'), 'functions').found, /the first node that connects loads them/)
  assert.match(of(info({ valkey_version: '8.0.1' }), 'redis').found, /^Valkey 8\.0\.1 at/)
  assert.equal(redisFindings({ ...WELL, ...info({ connected_clients: '7999' }) }).length, abouts.length)
})

test('doctor: what cannot even be asked has the way in as its line', () => {
  const lineOf = (problem: string) => {
    const [finding, ...more] = redisFindings({ ...WELL, problem })
    assert.deepEqual([finding!.level, more], ['mend', []])
    return finding!.mend!
  }
  assert.match(lineOf('WRONGPASS invalid username-password pair'), /REDIS_USERNAME and REDIS_PASSWORD/)
  assert.match(lineOf('self-signed certificate'), /REDIS_TLS_CA/)
  assert.match(lineOf('MOVED 1 127.0.0.1:7000'), /redis\+cluster:/)
  assert.match(lineOf('connect ECONNREFUSED'), /REDIS_URL/)
})

test('doctor: nodes of several versions, and which of them to restart', () => {
  const node = (name: string, version: string) => ({ node: name, version })
  assert.deepEqual(versionFindings([]), [])
  // A process with two registrations answers twice.
  assert.deepEqual(versionFindings([node('a', '0.9.0'), node('a', '0.9.0'), node('b', '0.9.0')]), [
    { level: 'ok', about: 'versions', found: 'every node that answers has version 0.9.0' },
  ])
  assert.deepEqual(versionFindings([node('a', '0.9.0'), node('b', '0.10.0'), node('c', '0.10.0')]), [
    {
      level: 'hint',
      about: 'versions',
      found: 'nodes of several versions run: 0.10.0 (2), 0.9.0 (1)',
      mend: 'install version 0.10.0 for a, and restart one after the other',
    },
  ])
  const many = Array.from({ length: 9 }, (_, n) => node(`n${n}`, '1.0.0'))
  assert.match(
    versionFindings([...many, node('new', '1.0.1')])[0]!.mend!,
    /^install version 1\.0\.1 for n0, n1, n2, n3, n4 and 4 more,/,
  )
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, type TestContext, test } from 'node:test'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { NodeReport } from '../../src/node/monitoring/report-schemas.ts'
import { SERVE_FLAGS } from '../../src/node/serve-settings.ts'
import type { BenchResult } from '../../src/terminal/bench.ts'
import type { Screen } from '../../src/terminal/command.ts'
import { COMMANDS } from '../../src/terminal/commands.ts'
import { completionsOf } from '../../src/terminal/completion.ts'
import { Latencies } from '../../src/terminal/latencies.ts'
import { Rates } from '../../src/terminal/rates.ts'
import { EXIT } from '../../src/terminal/run.ts'
import { linesOf, short } from '../../src/terminal/top-view.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { cleanups } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { commands } from '../helpers/terminal.ts'
import { PATIENCE, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer
let prefixes = 0

before(async () => {
  redis = await startRedis(all)
})

after(() => all.end())

async function build(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const redisPrefix = `look${++prefixes}:`
  const { app, port } = await buildPush(t, {
    redis: redis.url,
    redisPrefix,
    publishTimeout: PATIENCE,
    tickets: true,
    ...options,
  })
  return { app, url: `ws://127.0.0.1:${port}/ws`, ...commands({ redis: redis.url, redisPrefix }) }
}

// ── bench ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('bench: everything that was published arrives once, and is counted', async t => {
  const { run, url } = await build(t)
  const { code, out, err } = await within(
    run(`bench --url ${url} --connections 5 --rate 20 --seconds 1 --json`),
    'the end of bench',
  )
  assert.equal(code, EXIT.done, err)
  const result = JSON.parse(out) as BenchResult
  assert.ok(result.published > 0)
  assert.deepEqual([result.connections, result.failed, result.lost, result.repeated], [5, 0, 0, 0])
  assert.equal(result.delivered, result.expected)
  assert.ok(result.expected > result.published, 'every second one goes to five connections')
  assert.ok(result.p50! <= result.p99! && result.p99! <= result.max!)
})

test('bench: what it refuses, and a node that is not there', async t => {
  const { run } = await build(t)
  const cases: [rest: string, code: number, message: RegExp][] = [
    ['--url ws://push.example/ws', EXIT.usage, /^push\.example is another machine: --yes if you may/],
    ['--connections 2001', EXIT.usage, /^--connections is 2001: it must be a whole number from 1 to 2000/],
    ['--rate 10000 --connections 2000', EXIT.usage, /deliveries a second are too many/],
    ['--url ws://127.0.0.1:1/ws --yes --rate 0', EXIT.usage, /^--rate is 0/],
    [
      `--url ws://127.0.0.1:${await freePort()}/ws?ticket=sesame`,
      EXIT.failed,
      /ECONNREFUSED.*; fastify-push-bridge doctor/,
    ],
  ]
  for (const [rest, expected, message] of cases) {
    const { code, err } = await within(run(`bench ${rest}`), 'the end of bench')
    assert.equal(code, expected, err)
    assert.match(err, message)
    assert.doesNotMatch(err, /sesame/)
  }
})

test('bench: a Redis on another machine has a load too', async () => {
  const { run } = commands({ redis: 'rediss://redis.example', redisPrefix: 'x:' })
  const { code, err } = await run('bench --url ws://127.0.0.1:1/ws')
  assert.equal(code, EXIT.usage)
  assert.match(err, /^Redis is on another machine: --yes if you may put load on it/)
})

test('bench: percentiles are those of the values, within two per cent', () => {
  const latencies = new Latencies()
  assert.equal(latencies.at(0.5), undefined)
  for (let i = 1; i <= 1000; i++) latencies.add(i)
  const near = (value: number | undefined, wanted: number) =>
    assert.ok(Math.abs(value! / wanted - 1) <= 0.03, `${value}`)
  near(latencies.at(0.5), 500)
  near(latencies.at(0.99), 990)
  assert.equal(latencies.at(1), 1000)
  latencies.add(1e12)
  assert.equal(latencies.largest, 1e12)
})

// ── completion ─────────────────────────────────────────────────────────────────────────────────────────────────────

test('completion: every command and every flag is in it, for each shell', async () => {
  const { run } = commands(undefined)
  const completions = completionsOf(COMMANDS)
  assert.deepEqual(Object.keys(completions), ['serve', ...Object.keys(COMMANDS)])
  assert.deepEqual(Object.keys(completions.serve!.flags), Object.keys(SERVE_FLAGS))
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, out } = await run(`completion ${shell}`)
    assert.equal(code, EXIT.done)
    for (const [name, { flags }] of Object.entries(completions)) {
      const lines = out.split('\n').filter(line => line.includes(` ${name}`))
      const text = lines.join('\n')
      for (const flag of Object.keys(flags)) {
        assert.ok(text.includes(shell === 'fish' ? `-l ${flag}` : `--${flag}`), `${shell}: ${name} --${flag}`)
      }
    }
  }
  const wrong = await run('completion tcsh')
  assert.equal(wrong.code, EXIT.usage)
  assert.match(wrong.err, /^"tcsh" is no shell that is known: bash, zsh, fish\n/)
})

test('completion: bash completes with it', async t => {
  if (!findProgram('bash')) return t.skip('bash is not on the PATH')
  const { out } = await commands(undefined).run('completion bash')
  const complete = (...words: string[]) => {
    const script = `${out}\nCOMP_WORDS=(fastify-push-bridge ${words.join(' ')})\nCOMP_CWORD=${words.length}\n_fastify_push_bridge\nprintf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8', timeout: 60_000 })
    assert.equal(stderr, '')
    return stdout.trim().split('\n')
  }
  assert.deepEqual(complete('hist'), ['history'])
  assert.deepEqual(complete('subscribe', '--si'), ['--since'])
  assert.deepEqual(complete('serve', '--confi'), ['--config'])
})

// ── top ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function report(
  node: string,
  now: number,
  counters: Record<string, number>,
  more: Partial<NodeReport> = {},
): NodeReport {
  return {
    node,
    registration: 'push',
    version: '0',
    startedAt: 0,
    now,
    draining: false,
    connected: true,
    connections: 12_345,
    topics: 7,
    pendingUpgrades: 0,
    stalledConnections: 0,
    heldBytes: 0,
    lag: 0,
    memory: { rss: 150_000_000, heap: 1 },
    cpu: now / 2000,
    loopDelay: { p50: 1, p99: 2 },
    latency: { p50: 0.5, p99: 3 },
    counters,
    ...more,
  }
}

test('top: rates are those between two answers of a node, refusals by reason', () => {
  const rates = new Rates()
  const first = report('a', 1000, { publications_received_total: 10, 'upgrades_refused_total{PUSH_ERR_ORIGIN}': 1 })
  assert.equal(rates.next({ nodes: [first], complete: true }, 0).nodes[0]!.received, undefined)
  const second = report('a', 3000, {
    publications_received_total: 30,
    deliveries_total: 200,
    'upgrades_refused_total{PUSH_ERR_ORIGIN}': 5,
    'deliveries_skipped_total{except}': 2,
  })
  const tick = rates.next({ nodes: [second, report('b', 3000, {})], complete: false, expected: 3 }, 0)
  const [a, b] = tick.nodes
  assert.deepEqual([a!.received, a!.delivered, a!.refused, a!.cpu], [10, 100, 2, 50])
  assert.equal(b!.received, undefined)
  assert.deepEqual(tick.refusals, [
    { reason: 'upgrades_refused{PUSH_ERR_ORIGIN}', rate: 2 },
    { reason: 'deliveries_skipped{except}', rate: 1 },
  ])
  // One that was started anew counts from nothing.
  const third = rates.next({ nodes: [report('a', 5000, {})], complete: true }, 0)
  assert.equal(third.nodes[0]!.received, 0)
})

test('top: fits any terminal, and what others wrote cannot steer it', () => {
  const rates = new Rates()
  const nodes = Array.from({ length: 40 }, (_, i) => report(`node-${i}\u001b[2J`, 1000, {}, { problem: 'x' }))
  const tick = rates.next({ nodes, complete: false, expected: 41, problem: 'no\u001b[H' }, 0)
  for (const [columns, rows] of [
    [200, 50],
    [80, 24],
    [40, 10],
    [10, 3],
  ] as const) {
    const lines = linesOf(tick, { columns, rows })
    assert.ok(lines.length <= rows, `${lines.length} lines in ${rows} rows`)
    assert.deepEqual(
      lines.filter(line => line.length > columns || line.includes('\u001b')),
      [],
    )
  }
  assert.match(linesOf(tick, { columns: 200, rows: 50 })[0]!, /40 nodes \(40 of 41 answered\) {2}494k connections/)
  assert.deepEqual(
    [short(0), short(1.25), short(12_345), short(2e6), short(undefined)],
    ['0', '1.3', '12.3k', '2M', '–'],
  )
})

test('top: once, as JSON, and without Redis', async t => {
  const { app, run } = await build(t)
  await openConnection(app, '/ws/a')
  // A node of a busy machine may answer too late, which is said.
  let said = ''
  const isWhole = async (line: string, pattern: RegExp) => {
    said = (await within(run(line), `the end of ${line}`)).out
    return pattern.test(said)
  }
  await until(
    () => isWhole('top --every 0.1', /1 nodes {2}1 connections {2}\d.*\n\nnode +registration +state/),
    () => said,
  )
  const two = /^(\{.*"connections":1,.*\}\n){2}$/
  await until(
    () => isWhole('top --json --count 2 --every 0.1', two),
    () => said,
  )
  const away = commands({ redis: `redis://127.0.0.1:${await freePort()}`, redisPrefix: 'x:' })
  const without = await within(away.run('top --once --every 0.1'), 'the end without Redis')
  assert.equal(without.code, EXIT.failed)
  assert.match(without.out, /no node answered/)
})

test('top: how often it may ask', async () => {
  const { code, err } = await commands({ redis: redis.url, redisPrefix: 'x:' }).run('top --every 0')
  assert.equal(code, EXIT.usage)
  assert.match(err, /^--every is 0: it must be a number of seconds from 0\.1 to 60/)
})

test('top: live in a terminal until q, which gives the screen back', async t => {
  const { start } = await build(t)
  const seen = { press: (_key: string): void => {}, isTaken: false }
  const screen: Screen = {
    size: () => ({ columns: 60, rows: 10 }),
    take(given) {
      Object.assign(seen, { press: given, isTaken: true })
      return () => {
        seen.isTaken = false
      }
    },
  }
  const { said, done } = start('top --every 0.1', { screen })
  await until(
    () => (said.out.match(/1 nodes/g) ?? []).length >= 2,
    () => `two drawings: ${JSON.stringify(said.out)}`,
  )
  assert.ok(seen.isTaken && said.out.startsWith('\u001b[H'))
  assert.doesNotMatch(said.out, /\[2J/)
  seen.press('x')
  seen.press('q')
  assert.equal((await within(done, 'the end by q')).code, EXIT.done)
  assert.equal(seen.isTaken, false)
  const second = start('top --every 0.1', { screen })
  await until(() => second.said.out.includes('1 nodes'), 'it is drawn')
  second.end()
  assert.equal((await within(second.done, 'the end by Ctrl-C')).code, EXIT.done)
})

// ── explain ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('explain: who has the topic and what became of what was published', async t => {
  const { app, run } = await build(t)
  const connection = await openConnection(app, '/ws/a?user=ann')
  await app.push.publish('channel:a', { type: 'headline' as never })
  await connection.next('headline')
  // A node of a busy machine may answer too late, which is said.
  let said = { code: -1, out: '', err: '' }
  const isWhole = async (line: string) => {
    said = await within(run(line), `the end of ${line}`)
    return said.code === EXIT.done && !/nodes answered|"complete":false/.test(said.out)
  }
  await until(
    () => isWhole('explain channel:a'),
    () => JSON.stringify(said),
  )
  assert.match(said.out, /^channel:a\n/)
  assert.match(
    said.out,
    new RegExp(`\\nconnections\\nconnection +user +node .*\\n${connection.welcome.connection} +ann +`),
  )
  assert.match(said.out, /\nlast publications\nat +type .*\n.* headline +/)
  assert.match(
    said.out,
    new RegExp(`\\nconnection +user +node +since +connected +queued.*\\n${connection.welcome.connection}`),
  )
  connection.send('subscribe', { topic: 'user:other' }, 1)
  await connection.next('error')
  await until(
    () => isWhole('explain user:other'),
    () => JSON.stringify(said),
  )
  assert.match(
    said.out,
    new RegExp(
      `\\nrefused clients\\nat +user +connection .*\\n.* ann +${connection.welcome.connection} .* PUSH_ERR_FORBIDDEN `,
    ),
  )
  await until(
    () => isWhole('explain channel:nobody --json'),
    () => JSON.stringify(said),
  )
  const nobody = JSON.parse(said.out)
  assert.equal(nobody.topic, 'channel:nobody')
  assert.ok(nobody.findings.length > 0)
  assert.equal((await run('explain nonsense')).code, EXIT.failed)
})

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SRC = fileURLToPath(new URL('../src', import.meta.url))

/** The house from the ground up: a room may use what stands on a lower floor, types included, and nothing else. */
const FLOORS: string[][] = [
  [
    'topic',
    'keys',
    'errors',
    'metrics',
    'heartbeat',
    'raw-json',
    'slab',
    'position',
    'acks',
    'deadline',
    'loop-load',
    'connection-id',
    'slice',
    'blocks',
    'reconnect-times',
    'slow-consumers',
    'own-text',
  ],
  ['origin', 'redis/url', 'pace', 'rights', 'option-values'],
  ['client-handlers', 'client-page'],
  ['protocol', 'frame', 'registry', 'schemas', 'client-requests', 'retry', 'retention', 'identity'],
  ['queue', 'envelope', 'plain-envelope', 'broker', 'client-options', 'client-positions'],
  [
    'transport',
    'tail',
    'backlog',
    'answers',
    'client-link',
    'client-topics',
    'gate',
    'gathering',
    'intake',
    'memory-history',
    'outcome',
  ],
  ['writer'],
  ['connection', 'client-session', 'publish', 'memory-broker'],
  ['options', 'outbox', 'loss', 'recovery', 'drain'],
  ['confirmation', 'fan-out', 'welcome'],
  ['delivery', 'authentication'],
  [
    'redis/names',
    'redis/client',
    'redis/link',
    'redis/lag',
    'redis/topic-names',
    'redis/pending',
    'redis/refusals',
    'redis/track',
  ],
  ['redis/push-reader'],
  ['redis/read-ahead'],
  ['redis/commands', 'redis/subscriptions'],
  ['redis/functions', 'redis/receipts'],
  ['redis/history', 'redis/heads', 'redis/timeline', 'redis/carrier'],
  ['redis/continuity'],
  ['redis/feed'],
  ['redis/broker'],
  ['redis/registration'],
  ['redis/pool'],
  ['hub'],
  ['inbound', 'bridge'],
  ['routes/error-answer', 'routes/host-hooks', 'routes/client-module', 'routes/upgrade-watch', 'routes/subprotocol'],
  ['routes/admission', 'routes/push', 'routes/websocket-server'],
  ['routes/socket'],
  ['broker-choice'],
  ['plugin'],
  // Entries of the package, each on its own.
  ['index', 'publisher', 'client', 'testing', 'cli'],
]

const floorOf = new Map(FLOORS.flatMap((rooms, floor) => rooms.map(room => [`${room}.ts`, floor])))

const MAX_LINES = 335

interface Import {
  from: string
  /** `import type` leaves nothing behind; `import { type X }` still loads the module. */
  isType: boolean
}

interface Room {
  name: string
  lines: number
  imports: Import[]
}

function read(name: string): Room {
  const text = readFileSync(join(SRC, name), 'utf8')
  const code = text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const statements = code.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[\w\s{},*$]*\sfrom\s+)?'([^']+)'|\bimport\('([^']+)'\)/gm,
  )
  const imports = [...statements].map(([, type, from, dynamic]) => ({
    from: (from ?? dynamic)!,
    isType: type !== undefined,
  }))
  return { name, lines: text.split('\n').length - 1, imports }
}

const rooms = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .map(name => name.split(sep).join('/'))
  .filter(name => name.endsWith('.ts'))
  .toSorted()
  .map(read)

const isRelative = ({ from }: Import) => from.startsWith('.')

function target(room: Room, { from }: Import): string {
  return relative(SRC, resolve(SRC, dirname(room.name), from))
    .split(sep)
    .join('/')
}

/** Those who import one of `modules`, at run time or, with `types`, in any way. */
function importers(modules: RegExp, types: 'with types' | 'run time'): string[] {
  const isMeant = ({ from, isType }: Import) => modules.test(from) && (types === 'with types' || !isType)
  return rooms.filter(({ imports }) => imports.some(isMeant)).map(({ name }) => name)
}

const except = (names: string[], ...allowed: RegExp[]) =>
  names.filter(name => !allowed.some(pattern => pattern.test(name)))

test('imports are seen at all', () => {
  const all = rooms.flatMap(({ imports }) => imports)
  assert.ok(all.length > 100, `${all.length} imports`)
  assert.ok(all.some(({ isType }) => isType) && all.some(isRelative))
  assert.deepEqual(importers(/^@fastify\/error$/, 'run time'), ['errors.ts'])
})

test('every room has a floor', () => {
  const homeless = rooms.map(({ name }) => name).filter(name => !floorOf.has(name))
  assert.deepEqual(homeless, [], 'put it into FLOORS')
})

for (const room of rooms) {
  test(`${room.name} imports from lower floors only`, () => {
    const own = floorOf.get(room.name)!
    const wrong = room.imports
      .filter(isRelative)
      .map(it => target(room, it))
      .filter(name => !((floorOf.get(name) ?? Number.POSITIVE_INFINITY) < own))
    assert.deepEqual(wrong, [])
  })
}

test('only redis/ and the publisher know ioredis, and options.ts its types', () => {
  assert.deepEqual(except(importers(/^ioredis/, 'run time'), /^redis\//, /^publisher\.ts$/), [])
  assert.deepEqual(except(importers(/^ioredis/, 'with types'), /^redis\//, /^publisher\.ts$/, /^options\.ts$/), [])
})

test('only the plugin, its routes and the command know Fastify; some know its types', () => {
  const FASTIFY = /^(fastify|fastify-plugin|@fastify\/(?!error$).*)$/
  assert.deepEqual(except(importers(FASTIFY, 'run time'), /^plugin\.ts$/, /^routes\//, /^cli\.ts$/), [])
  const types = [/^plugin\.ts$/, /^routes\//, /^cli\.ts$/, /^broker-choice\.ts$/, /^options\.ts$/, /^testing\.ts$/]
  assert.deepEqual(except(importers(FASTIFY, 'with types'), ...types), [])
})

test('only the transport and the testing entry know ws; routes know its types', () => {
  assert.deepEqual(except(importers(/^ws$/, 'run time'), /^transport\.ts$/, /^testing\.ts$/), [])
  assert.deepEqual(except(importers(/^ws$/, 'with types'), /^transport\.ts$/, /^testing\.ts$/, /^routes\//), [])
})

test('what the browser imports knows no Node and no package', () => {
  const seen = new Set(
    ['topic.ts', 'protocol.ts', 'client.ts', 'client-session.ts'].filter(name =>
      rooms.some(room => room.name === name),
    ),
  )
  for (const name of seen) {
    const room = rooms.find(it => it.name === name)!
    assert.deepEqual(
      room.imports.filter(it => !isRelative(it)),
      [],
      name,
    )
    for (const it of room.imports) seen.add(target(room, it))
  }
})

test('nothing imports the index, and entries stand alone', () => {
  const entries = ['index.ts', 'publisher.ts', 'client.ts', 'testing.ts', 'cli.ts']
  const wrong = rooms.flatMap(room =>
    room.imports
      .filter(isRelative)
      .map(it => target(room, it))
      .filter(name => entries.includes(name))
      .map(name => `${room.name} imports ${name}`),
  )
  assert.deepEqual(wrong, [])
})

test('there is no utils.ts and no types.ts', () => {
  const names = rooms.map(({ name }) => name.split('/').at(-1)!)
  assert.deepEqual(
    names.filter(name => /^(utils?|types?|helpers?|common|misc)\.ts$/.test(name)),
    [],
  )
})

test(`no room has more than ${MAX_LINES} lines`, () => {
  assert.deepEqual(
    rooms.filter(({ lines }) => lines > MAX_LINES).map(({ name, lines }) => `${name} has ${lines} lines`),
    [],
  )
})

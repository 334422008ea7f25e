import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SRC = fileURLToPath(new URL('../src', import.meta.url))

/**
 * The house from the ground up: what is in a folder, or in a file beside the folders, may use what stands on a lower
 * floor and the folder itself, types included, and nothing else.
 */
const FLOORS: string[][] = [
  ['protocol'],
  ['protocol/codecs'],
  // What browsers load is bundled.
  ['client', 'broker', 'page'],
  ['broker/memory', 'broker/redis', 'publish', 'connection', 'client/echo', 'client/react'],
  ['ingress'],
  ['delivery', 'options'],
  ['node/events', 'node/presence', 'node/monitoring', 'ingress/streams', 'ingress/rabbitmq', 'ingress/kafka'],
  ['node'],
  ['bridge.ts'],
  ['routes'],
  ['plugin.ts'],
  // Entries of the package, each on its own. A page has `client/`.
  ['index.ts', 'publisher.ts', 'testing.ts'],
  ['terminal'],
  ['cli.ts'],
]

/** What a newcomer opens first. */
const FIRST = {
  protocol: 'messages.ts',
  'protocol/codecs': 'codec.ts',
  client: 'index.ts',
  'client/echo': 'index.ts',
  'client/react': 'index.ts',
  page: 'index.ts',
  broker: 'broker.ts',
  'broker/memory': 'broker.ts',
  'broker/redis': 'broker.ts',
  publish: 'publish.ts',
  ingress: 'ingress.ts',
  'ingress/streams': 'streams.ts',
  'ingress/rabbitmq': 'rabbitmq.ts',
  'ingress/kafka': 'kafka.ts',
  connection: 'connection.ts',
  delivery: 'delivery.ts',
  options: 'options.ts',
  'node/events': 'events.ts',
  'node/presence': 'presence.ts',
  'node/monitoring': 'series.ts',
  node: 'hub.ts',
  routes: 'socket.ts',
  terminal: 'calls.ts',
}

const floorOf = new Map(FLOORS.flatMap((places, floor) => places.map(place => [place, floor])))

/** The folder of a room; a room beside the folders is a place of its own. */
const placeOf = (name: string) => (name.includes('/') ? dirname(name) : name)

const MAX_LINES = 320

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
  assert.deepEqual(importers(/^@fastify\/error$/, 'run time'), ['protocol/errors.ts'])
})

test('every place has a floor, every folder a file to begin with, and src/ is seen at one glance', t => {
  for (const [floor, places] of FLOORS.entries()) t.diagnostic(`floor ${floor}: ${places.join(' · ')}`)
  assert.deepEqual([...new Set(rooms.map(({ name }) => placeOf(name)))].sort(), [...floorOf.keys()].sort())
  for (const [folder, first] of Object.entries(FIRST))
    assert.ok(rooms.some(({ name }) => name === `${folder}/${first}`))
  assert.deepEqual(Object.keys(FIRST).sort(), [...floorOf.keys()].filter(place => !place.endsWith('.ts')).sort())
  const names = readdirSync(SRC)
  assert.ok(names.length <= 18, `${names.length} names in src/: ${names.join(' ')}`)
})

for (const room of rooms) {
  test(`${room.name} imports from its own folder and lower floors only`, () => {
    const place = placeOf(room.name)
    const own = floorOf.get(place)!
    const mayUse = (name: string) => {
      const floor = floorOf.get(placeOf(name)) ?? Number.POSITIVE_INFINITY
      return floor < own || (placeOf(name) === place && place.includes('.ts') === false)
    }
    const used = room.imports.filter(isRelative).map(it => target(room, it))
    assert.deepEqual(
      used.filter(name => !mayUse(name)),
      [],
    )
  })
}

test('within a folder, too, imports go one way', () => {
  const done = new Set<string>()
  const walk = (name: string, path: readonly string[]): void => {
    assert.ok(!path.includes(name), `a circle: ${[...path, name].join(' → ')}`)
    if (done.has(name)) return
    const room = rooms.find(it => it.name === name)
    for (const it of room?.imports.filter(isRelative) ?? []) walk(target(room!, it), [...path, name])
    done.add(name)
  }
  for (const { name } of rooms) walk(name, [])
})

test('only broker/redis/ and the publisher know ioredis, and the options its types', () => {
  assert.deepEqual(except(importers(/^ioredis/, 'run time'), /^broker\/redis\//, /^publisher\.ts$/), [])
  assert.deepEqual(except(importers(/^ioredis/, 'with types'), /^broker\/redis\//, /^publisher\.ts$/, /^options\//), [])
})

test('only the plugin, its routes and the command know Fastify; some know its types', () => {
  const FASTIFY = /^(fastify|fastify-plugin|@fastify\/(?!error$).*)$/
  assert.deepEqual(except(importers(FASTIFY, 'run time'), /^plugin\.ts$/, /^routes\//, /^cli\.ts$/), [])
  const types = [
    /^plugin\.ts$/,
    /^routes\//,
    /^cli\.ts$/,
    /^node\/broker-choice\.ts$/,
    /^options\//,
    /^testing\.ts$/,
    /^ingress\//,
  ]
  assert.deepEqual(except(importers(FASTIFY, 'with types'), ...types), [])
})

test('only the transport, the testing entry and the sockets of commands know ws; routes know its types', () => {
  const WHO = [/^connection\/transport\.ts$/, /^testing\.ts$/, /^terminal\/socket\.ts$/]
  assert.deepEqual(except(importers(/^ws$/, 'run time'), ...WHO), [])
  assert.deepEqual(except(importers(/^ws$/, 'with types'), ...WHO, /^routes\//), [])
})

test('only the metrics know prom-client, and load it when somebody wants them', () => {
  assert.deepEqual(except(importers(/^prom-client$/, 'run time'), /^node\/monitoring\/exposition\.ts$/), [])
  assert.deepEqual(
    except(importers(/^prom-client$/, 'with types'), /^node\/monitoring\/exposition\.ts$/, /^routes\/metrics\.ts$/),
    [],
  )
  const { imports } = rooms.find(({ name }) => name === 'node/monitoring/exposition.ts')!
  const statements = readFileSync(join(SRC, 'node/monitoring/exposition.ts'), 'utf8').match(/^import .*prom-client'/gm)
  assert.ok(imports.some(({ from }) => from === 'prom-client'))
  assert.deepEqual(
    statements?.filter(line => !line.startsWith('import type')),
    [],
  )
})

test('the libraries of queues are loaded in one place each, when a road is opened', () => {
  assert.deepEqual(importers(/^(rabbitmq-client|kafkajs)$/, 'with types'), [])
  const naming = (library: string) =>
    rooms.map(({ name }) => name).filter(name => readFileSync(join(SRC, name), 'utf8').includes(`= '${library}'`))
  assert.deepEqual(naming('rabbitmq-client'), ['ingress/rabbitmq/library.ts'])
  assert.deepEqual(naming('kafkajs'), ['ingress/kafka/library.ts'])
})

test('only the codecs know the packages that they are made of, and nobody loads one that nobody asks for', () => {
  assert.deepEqual(importers(/^@msgpack\//, 'with types'), ['protocol/codecs/msgpack.ts'])
  assert.deepEqual(importers(/^@bufbuild\//, 'with types'), ['protocol/codecs/protobuf.ts'])
  const CODED = /protocol\/codecs\/(strict-)?(msgpack|protobuf)\.ts$/
  // By a dynamic import in the one, which the option `codecs` decides on; the others are entries of the package.
  assert.deepEqual(importers(CODED, 'with types'), ['client/msgpack.ts', 'client/protobuf.ts', 'node/codecs.ts'])
  assert.doesNotMatch(readFileSync(join(SRC, 'node/codecs.ts'), 'utf8'), /^import .*(msgpack|protobuf)\.ts'/m)
})

test('what the browser imports knows no Node and no package', () => {
  const seen = new Set(
    ['protocol/topic.ts', 'protocol/messages.ts', 'client/echo/index.ts', 'page/index.ts'].filter(name =>
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

test('only the hooks know React', () => {
  assert.deepEqual(except(importers(/^react/, 'with types'), /^client\/react\//), [])
})

/**
 * The command line is a script like any other, and in some commands a client. The connector of Echo is a page like any other,
 * and the hooks share the client of the page.
 */
const ITS_OWN = ['publisher.ts', 'client/index.ts']
const SCRIPTS = /^(cli\.ts|terminal\/.*|client\/(echo|react)\/.*)$/

test('nothing imports the index, and entries stand alone', () => {
  const entries = ['index.ts', 'publisher.ts', 'testing.ts', 'cli.ts']
  entries.push('client/index.ts', 'client/echo/index.ts', 'client/react/index.ts')
  const wrong = rooms.flatMap(room =>
    room.imports
      .filter(isRelative)
      .map(it => target(room, it))
      .filter(name => entries.includes(name) && !(ITS_OWN.includes(name) && SCRIPTS.test(room.name)))
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

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Codecs } from '../../src/node/codecs.ts'
import { path, run } from '../helpers/processes.ts'
import { START } from '../helpers/waiting.ts'

test('a registration has the codecs that it names, and JSON in any case', async () => {
  const json = await Codecs.open(['json'])
  assert.deepEqual([...json.protocols], ['push.json'])
  assert.equal(json.readMsgpack, undefined)
  assert.equal(json.of('push.msgpack'), undefined)
  const all = await Codecs.open(['json', 'protobuf', 'msgpack'])
  assert.deepEqual([...all.protocols].toSorted(), ['push.json', 'push.msgpack', 'push.protobuf'])
  for (const name of ['msgpack', 'protobuf'] as const) assert.equal(all.of(`push.${name}`)!.name, name)
  assert.equal(all.of('push.json'), undefined)
  assert.equal(all.of(''), undefined)
  assert.equal(typeof all.readMsgpack, 'function')
})

/** In a process in which these packages are not installed. */
const WITHOUT = `
  import { register } from 'node:module'
  const hooks = "export async function resolve(name, context, next) {" +
    "if (/^@(msgpack|bufbuild)[/]/.test(name)) throw Object.assign(new Error('no ' + name), { code: 'ERR_MODULE_NOT_FOUND' });" +
    "return next(name, context) }"
  register('data:text/javascript,' + encodeURIComponent(hooks))
  const { Codecs } = await import(process.argv[1])
  console.log([...(await Codecs.open(['json'])).protocols].join())
  for (const name of ['msgpack', 'protobuf']) {
    await Codecs.open(['json', name]).catch(({ code, message }) => console.log(code, message))
  }
`

test('nobody needs a package of a codec that nobody names, and whoever names one is told which', async () => {
  const file = path('src/node/codecs.ts')
  const args = ['--import', 'tsx', '--input-type=module', '--eval', WITHOUT, file]
  const { code, stdout, stderr } = await run(process.execPath, args, {}, START)
  assert.equal(code, 0, stderr)
  assert.deepEqual(stdout.trim().split('\n'), [
    'push.json',
    'PUSH_ERR_OPTIONS fastify-push-bridge: option codecs: "msgpack" needs @msgpack/msgpack: npm install @msgpack/msgpack',
    'PUSH_ERR_OPTIONS fastify-push-bridge: option codecs: "protobuf" needs @bufbuild/protobuf: npm install @bufbuild/protobuf',
  ])
})

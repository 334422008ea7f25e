import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { WebSocket } from 'ws'
import { cleanups, type InteropNode, path, startInteropNode, temporaryFolder } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { Inbox } from '../helpers/waiting.ts'

/** docs/push.proto, as somebody uses it who has no library of ours: compiled by protoc, which reads and writes real frames. */

const all = cleanups()
let redis: RedisServer
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  node = await startInteropNode(all, redis.url, { CODECS: '["json","protobuf"]' })
})
after(() => all.end())

function protoc(args: readonly string[], input: Buffer | string = ''): Buffer {
  const { status, stdout, stderr } = spawnSync('protoc', [`--proto_path=${path('docs')}`, ...args, 'push.proto'], {
    input,
  })
  assert.deepEqual([status, String(stderr)], [0, ''])
  return stdout
}

const decode = (frame: Buffer) => String(protoc(['--decode=push.v1.Message'], frame))
const encode = (text: string) => protoc(['--encode=push.v1.Message'], text)

/** As a program that was made from the file alone: the frames that come, as protoc reads them. */
async function open(t: { after(hook: () => void): void }, url: string) {
  const socket = new WebSocket(url, ['push.protobuf'])
  t.after(() => socket.terminate())
  const frames = new Inbox<string>('a frame')
  socket.on('message', (data, isBinary) => frames.put(isBinary ? decode(data as Buffer) : `text: ${data}`))
  const next = async (type: string) => {
    for (;;) {
      const text = await frames.take()
      if (text.startsWith(`type: "${type}"\n`)) return text
    }
  }
  return { socket, next, welcome: await next('welcome') }
}

test('docs/push.proto compiles, to PHP, Python and Java too', t => {
  const folder = temporaryFolder(t)
  protoc(['php', 'python', 'java'].map(language => `--${language}_out=${folder}`))
  const made = readdirSync(folder, { recursive: true }).map(String)
  for (const name of ['Push/V1/Message.php', 'push_pb2.py', 'push/v1/Push.java'])
    assert.ok(made.includes(name), `${made}`)
})

test('protoc reads what a node sends', async t => {
  const { next, welcome } = await open(t, `${node.url}/orders?user=42`)
  assert.match(welcome, /key: "user"\s+value {\s+string_value: "42"/)
  const payload = { id: 7, half: -0.5, note: 'hi', none: null, list: [true, {}] }
  await redis.admin.publish('push:channel:orders', JSON.stringify({ type: 'order.created', payload, seq: 3 }))
  const text = await next('order.created')
  assert.match(text, /\n}\ntopic: "channel:orders"\nseq: 3\n$/)
  /** By key, each value as protoc writes it. */
  const entries = [...text.matchAll(/^ {4}entries {\n {6}key: "(\w+)"\n {6}value {\n([\s\S]*?)\n {6}}\n {4}}$/gm)]
  assert.deepEqual(Object.fromEntries(entries.map(([, key, value]) => [key, value!.replaceAll(/\s+/g, ' ').trim()])), {
    id: 'integer_value: 7',
    half: 'double_value: -0.5',
    note: 'string_value: "hi"',
    none: 'null_value: NULL_VALUE',
    list: 'list_value { values { bool_value: true } values { map_value { } } }',
  })
})

test('a node reads what protoc writes', async t => {
  const { socket, next } = await open(t, node.url)
  socket.send(
    encode(`type: "subscribe" ref_text: "first"
      payload { map_value { entries { key: "topic" value { string_value: "channel:orders" } } } }`),
  )
  assert.match(await next('subscribed'), /string_value: "channel:orders"[\s\S]*\nref_text: "first"\n$/)
  socket.send(encode('type: "ping" ref_number: -5 payload { bytes_value: "\\000\\377" }'))
  assert.match(await next('pong'), /^type: "pong"\npayload {\n {2}bytes_value: "\\000\\377"\n}\n/)
})

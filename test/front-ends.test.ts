import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { createElement, type FunctionComponent } from 'react'
import { renderToString } from 'react-dom/server'
import { Type } from 'typebox'
import { WebSocket } from 'ws'
import type { Client } from '../src/client/index.ts'
import { clientHandler } from '../src/index.ts'
import { buildPush } from './helpers/app.ts'
import { type FrontEndBlock, frontEndBlocks } from './helpers/front-end-blocks.ts'
import { path, temporaryFolder } from './helpers/processes.ts'
import { until, within } from './helpers/waiting.ts'

const LIMIT = { timeout: 240_000 }

/** As much of Vue and Svelte as the ten lines use, as their documents say; test/package has the real ones. */
const SHIMS = {
  vue: `
    export const disposals = []
    export const shallowRef = value => ({ value })
    export const onScopeDispose = dispose => disposals.push(dispose)`,
  svelte: `
    export const readable = (value, start) => ({
      subscribe(run) {
        run(value)
        const set = next => run((value = next))
        return start(set, change => set(change(value)))
      },
    })`,
}

interface Store {
  subscribe(run: (messages: { payload: unknown }[]) => void): () => void
}

interface Snippets {
  client: Client
  hold(topic: string): () => void
  useMessages(topic: string, limit?: number): { value: { payload: unknown }[] }
  messagesOf(topic: string, limit?: number): Store
  disposals: (() => void)[]
}

/** The blocks of the document as files, bundled into one module that exports what `entry` exports. */
async function load<Exports>(t: TestContext, blocks: FrontEndBlock[], entry: string): Promise<Exports> {
  const folder = temporaryFolder(t)
  const put = (name: string, code: string) => {
    writeFileSync(join(folder, name), code)
    return join(folder, name)
  }
  for (const { name, code } of blocks) put(name, code)
  const outfile = join(folder, 'bundle.mjs')
  await build({
    entryPoints: [put('entry.js', entry)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    jsx: 'automatic',
    logLevel: 'silent',
    alias: {
      'fastify-push-bridge/client': path('src/client/index.ts'),
      'fastify-push-bridge/react': path('src/client/react/index.ts'),
      vue: put('vue-shim.js', SHIMS.vue),
      'svelte/store': put('svelte-shim.js', SHIMS.svelte),
    },
    plugins: [
      {
        name: 'the react of these tests',
        setup: ({ onResolve }) =>
          onResolve({ filter: /^react(\/.*)?$/ }, ({ path }) => ({ path: import.meta.resolve(path), external: true })),
      },
    ],
  })
  return import(pathToFileURL(outfile).href) as Promise<Exports>
}

const blocksFor = (port: number) =>
  frontEndBlocks().map(({ name, code }) => ({
    name,
    code: code.replace("connect('/ws'", `connect('ws://127.0.0.1:${port}/ws'`),
  }))

/** Something global that a page has and Node may lack, for one test. */
function define(t: TestContext, globals: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name)
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : Reflect.deleteProperty(globalThis, name)))
  }
}

const texts = (messages: { payload: unknown }[]) => messages.map(({ payload }) => payload)

test(
  'the lines for Vue and Svelte share one subscription, show what comes, and leave when both are gone',
  LIMIT,
  async t => {
    const { app, port } = await buildPush(t)
    define(t, { WebSocket: globalThis.WebSocket ?? WebSocket })
    const { client, useMessages, messagesOf, disposals } = await load<Snippets>(
      t,
      blocksFor(port),
      `export * from './push.js'
     export * from './use-messages.js'
     export * from './messages.js'
     export { disposals } from 'vue'`,
    )
    t.after(() => client.close())
    const topic = 'channel:orders'
    const inVue = useMessages(topic, 2)
    let inSvelte: { payload: unknown }[] = []
    const leave = messagesOf(topic).subscribe(messages => {
      inSvelte = messages
    })
    await within(client.subscribe(topic), 'the subscription')
    const members = () => [...app.push.connections.of(topic)].length
    for (const n of [1, 2, 3]) await app.push.publish(topic, { type: 'n', payload: n })
    await app.push.publish('all', { type: 'n', payload: 'of another topic' })
    await until(() => inSvelte.length === 3, 'three messages')
    assert.deepEqual(
      [texts(inVue.value), texts(inSvelte)],
      [
        [2, 3],
        [1, 2, 3],
      ],
    )

    leave()
    await app.push.publish(topic, { type: 'n', payload: 4 })
    await until(() => texts(inVue.value).includes(4), 'the other one hears more')
    assert.deepEqual([texts(inSvelte), members()], [[1, 2, 3], 1])
    for (const dispose of disposals) dispose()
    await until(() => members() === 0, 'the topic is left')
  },
)

test('the lines for requests that wait, and for pages that are loaded again', LIMIT, async t => {
  const notes: { id: string; text: string }[] = []
  const save = clientHandler(Type.Object({ id: Type.String(), text: Type.String() }), note => notes.push(note))
  const { app, port } = await buildPush(t, { handlers: { 'note.save': save }, history: { all: { size: 9, ttl: 9 } } })
  const kept = new Map<string, string>()
  define(t, {
    WebSocket: globalThis.WebSocket ?? WebSocket,
    sessionStorage: { getItem: (key: string) => kept.get(key) ?? null, setItem: kept.set.bind(kept) },
  })
  const pages = await load<{ client: Client; room: Client; save(text: string): Promise<number> }>(
    t,
    blocksFor(port),
    `export * from './push.js'
     export * from './save.js'
     export { client as room } from './room.js'`,
  )
  t.after(() => pages.client.close())
  t.after(() => pages.room.close())
  // There is no connection yet.
  assert.equal(await within(pages.save('hello'), 'the reply'), 1)
  assert.equal(notes[0]!.text, 'hello')
  const heard = new Promise(resolve => pages.room.on('n', resolve))
  await within(pages.room.subscribe('channel:room.1'), 'the subscription')
  await app.push.publish('all', { type: 'n' })
  await within(heard, 'a message')
  pages.room.close()
  const [text] = [...kept.values()]
  assert.ok('all' in JSON.parse(text!).positions)
})

test('the page in React renders, with each of its hooks', LIMIT, async t => {
  const { App } = await load<{ App: FunctionComponent }>(t, frontEndBlocks(), "export { App } from './app.jsx'")
  assert.equal(
    renderToString(createElement(App)).replaceAll('<!-- -->', ''),
    '<p>Connecting</p><p>0 new orders</p><section><p>Here: </p></section>',
  )
})

test('the table of the hooks has all that the entry exports', () => {
  const text = readFileSync(path('docs/front-ends.md'), 'utf8')
  const entry = readFileSync(path('src/client/react/index.ts'), 'utf8')
  const names = [...entry.matchAll(/\b(use\w+|PushProvider)\b/g)].map(([name]) => name)
  assert.ok(names.length >= 6)
  for (const name of names) assert.match(text, new RegExp(`^\\| \`<?${name}[ (]`, 'm'))
})

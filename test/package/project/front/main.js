/** The lines of docs/front-ends.md with the real Vue and Svelte, and the hooks with the React of the project. */
import './websocket.js'
import Fastify from 'fastify'
import pushBridge from 'fastify-push-bridge'
import { PushProvider, useChannel } from 'fastify-push-bridge/react'
import { createElement } from 'react'
import { renderToString } from 'react-dom/server'
import { effectScope } from 'vue'
import { messagesOf } from './messages.js'
import { client } from './push.js'
import { useMessages } from './use-messages.js'

const topic = 'channel:orders'
const app = Fastify()
await app.register(pushBridge, { path: '/ws', authenticate: () => ({ allow: [topic] }) })
await app.listen({ port: Number(process.argv[2]), host: '127.0.0.1' })
const welcomed = new Promise(resolve => client.listen('welcome', resolve))
if (!client.welcome) await welcomed

const scope = effectScope()
const inVue = scope.run(() => useMessages(topic, 2))
let leave = () => {}
const inSvelte = new Promise(resolve => {
  leave = messagesOf(topic).subscribe(messages => messages.length === 3 && resolve(messages))
})
await client.subscribe(topic)
for (const payload of [1, 2, 3]) await app.push.publish(topic, { type: 'n', payload })
const payloads = messages => messages.map(({ payload }) => payload)
const seen = [payloads(await inSvelte), payloads(inVue.value)]

scope.stop()
leave()
while ([...app.push.connections.of(topic)].length > 0) await new Promise(resolve => setTimeout(resolve, 5))
client.close()
await app.close()

const State = () => useChannel(topic).state
const html = renderToString(createElement(PushProvider, { url: '/ws' }, createElement(State)))
console.log(JSON.stringify([...seen, html]))

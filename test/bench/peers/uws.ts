/** uWebSockets.js, which is C++ below, with its own topics; the message encoded once, as `ws` does. */
import uws from '@trufflesuite/uws-js-unofficial'
import { Redis } from 'ioredis'
import { announce, PORT, PREFIX, REDIS_URL, topicsOf } from '../lib/contract.ts'

const subscriber = new Redis(REDIS_URL)
const app = uws.App()

subscriber.on('message', (channel, text) => {
  const { type, payload } = JSON.parse(text)
  const topic = channel.slice(PREFIX.length)
  app.publish(topic, JSON.stringify({ type, payload, topic }), false)
})

app.ws('/*', {
  // It drops what a socket has no room for: nothing is to be dropped here.
  maxBackpressure: 1024 * 1024 * 1024,
  idleTimeout: 0,
  upgrade(response, request, context) {
    const topics = topicsOf(`${request.getUrl()}?${request.getQuery()}`)
    const header = (name: string) => request.getHeader(name)
    const [key, protocol] = [header('sec-websocket-key'), header('sec-websocket-protocol')]
    response.upgrade({ topics }, key, protocol, header('sec-websocket-extensions'), context)
  },
  open(socket) {
    const { topics } = socket.getUserData()
    for (const topic of topics) socket.subscribe(topic)
    void subscriber.subscribe(...topics.map(topic => PREFIX + topic)).then(() => {
      socket.send('{"type":"welcome","payload":{}}')
    })
  },
  close(socket) {
    const left = socket.getUserData().topics.filter(topic => app.numSubscribers(topic) === 0)
    if (left.length > 0) void subscriber.unsubscribe(...left.map(topic => PREFIX + topic))
  },
})

app.listen('127.0.0.1', PORT, listening => announce(uws.us_socket_local_port(listening)))

/** One message through every entry of the package, for main.cjs and main.mjs. */
module.exports = async ({ Fastify, WebSocket, pushBridge, createPublisher, connect, openConnection, ...roads }) => {
  const app = Fastify()
  await app.register(pushBridge, { path: '/ws', authenticate: () => ({ user: '42' }) })
  const connection = await openConnection(app, '/ws')
  const client = connect(`ws://127.0.0.1:${app.server.address().port}/ws`, { WebSocket })
  const heard = new Promise(resolve => client.on('notice', resolve))
  await new Promise(resolve => client.listen('welcome', resolve))
  await app.push.publish('user:42', { type: 'notice', payload: { text: 'hi' } })
  console.log((await connection.next('notice')).payload.text, (await heard).text)
  client.close()
  const publisher = createPublisher({ redis: 'redis://127.0.0.1:1' })
  await publisher.end()
  // Their libraries are not installed here, and only whoever opens a road needs one.
  const rabbitmq = roads.rabbitmqIngress({ rabbitmq: 'amqp://127.0.0.1', topics: ['all'] })
  const kafka = roads.kafkaIngress({ kafka: { brokers: ['127.0.0.1:9092'] }, kafkaTopics: ['push'], topics: ['all'] })
  for (const road of [rabbitmq, kafka]) {
    const opening = Promise.resolve(road.open({ node: 'n' }))
    console.log(await opening.catch(error => error.message))
  }
  await app.close()
}

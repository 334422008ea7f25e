/** One message through every entry of the package, for main.cjs and main.mjs. */
module.exports = async ({ Fastify, WebSocket, pushBridge, createPublisher, connect, openConnection }) => {
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
  await app.close()
}

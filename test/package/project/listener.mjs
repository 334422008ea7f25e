/** Prints what the server of the README publishes. */
import { connect } from 'fastify-push-bridge/client'
import { WebSocket } from 'ws'

const client = connect(process.argv[2], { topics: ['channel:orders'], WebSocket })
client.listen('subscribed', ({ topic }) => console.log('subscribed', topic))
client.on('order.created', ({ id }) => console.log('order', id))

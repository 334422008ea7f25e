/** For a bundler: compiled without the types of Node, since pages have none. */
import { connect } from 'fastify-push-bridge/client'
import { PushConnector } from 'fastify-push-bridge/echo'

const client = connect<{ 'order.created': { id: number } }>('/ws', { topics: ['channel:orders'] })
client.on('order.created', order => document.body.append(order.id.toFixed()))
client.listen('gap', ({ topics }) => document.body.append(String(topics)))

const orders = new PushConnector({ url: '/ws', credentials: 'include' }).privateChannel('orders.1')
orders.listen('OrderShipped', (order: { id: number }) => document.body.append(order.id.toFixed()))

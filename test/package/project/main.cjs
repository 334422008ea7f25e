const Fastify = require('fastify')
const { WebSocket } = require('ws')
const bridge = require('fastify-push-bridge')
const { createPublisher } = require('fastify-push-bridge/publisher')
const { connect } = require('fastify-push-bridge/client')
const { openConnection } = require('fastify-push-bridge/testing')
const { rabbitmqIngress } = require('fastify-push-bridge/ingress-rabbitmq')
const { kafkaIngress } = require('fastify-push-bridge/ingress-kafka')
require('fastify-push-bridge/package.json')
const live = require('./live.cjs')

const roads = { rabbitmqIngress, kafkaIngress }
void live({ Fastify, WebSocket, pushBridge: bridge.default, createPublisher, connect, openConnection, ...roads })

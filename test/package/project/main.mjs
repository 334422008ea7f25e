import Fastify from 'fastify'
import pushBridge from 'fastify-push-bridge'
import { connect } from 'fastify-push-bridge/client'
import { kafkaIngress } from 'fastify-push-bridge/ingress-kafka'
import { rabbitmqIngress } from 'fastify-push-bridge/ingress-rabbitmq'
import { createPublisher } from 'fastify-push-bridge/publisher'
import { openConnection } from 'fastify-push-bridge/testing'
import { WebSocket } from 'ws'
import live from './live.cjs'

const roads = { rabbitmqIngress, kafkaIngress }
await live({ Fastify, WebSocket, pushBridge, createPublisher, connect, openConnection, ...roads })

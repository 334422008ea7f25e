import Fastify from 'fastify'
import pushBridge from 'fastify-push-bridge'
import { connect } from 'fastify-push-bridge/client'
import { createPublisher } from 'fastify-push-bridge/publisher'
import { openConnection } from 'fastify-push-bridge/testing'
import { WebSocket } from 'ws'
import live from './live.cjs'

await live({ Fastify, WebSocket, pushBridge, createPublisher, connect, openConnection })

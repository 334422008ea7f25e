import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type {} from '@fastify/websocket'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { RawData, WebSocket } from 'ws'
import type { Connection } from '../connection/connection.ts'
import { createTransport } from '../connection/transport.ts'
import type { Since } from '../delivery/recovery.ts'
import { CLOSE_TIMEOUT } from '../node/heartbeat.ts'
import type { Hub } from '../node/hub.ts'
import type { Dispatcher } from '../node/inbound.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { MAX_CLOSE_REASON_BYTES } from '../protocol/messages.ts'
import { type Admission, type Admitted, closeCodeOf } from './admission.ts'
import { clientModule } from './client-module.ts'
import { answerError } from './error-reply.ts'
import { adoptUpgrade, finishUpgrade } from './websocket-server.ts'

interface SocketRoutes {
  hub: Hub
  options: Options
  admission: Admission
  dispatcher: Dispatcher
}

/** What was decided in preHandler, for the handler that gets the socket. */
type Decision = (Admitted | { refusal: PushError }) & { response: ServerResponse }

// Properties, no WeakMaps: the values of a WeakMap outlive their keys until a full collection, and here those are what
// is left of each upgrade. They made two thirds of the garbage among old objects.
const DECISION = Symbol('push.decision')
const CONNECTION = Symbol('push.connection')

type Decided = FastifyRequest & { [DECISION]?: Decision }
type Connected = WebSocket & { [CONNECTION]?: Connection }

const DEFAULT_CLOSE_CODE = 1005

const NO_SOCKET = 'injectWS has no socket: use openConnection of fastify-push-bridge/testing'

/** `path`, `path/` and `path/NAME`: WebSocket upgrades, and help for whoever arrives with a plain GET. */
export function socketRoutes(app: FastifyInstance, { hub, options, admission, dispatcher }: SocketRoutes): void {
  const onRequest = (request: FastifyRequest, _reply: FastifyReply, done: () => void) => {
    if (request.ws) adoptUpgrade(app, request.raw, options.limits.handshake)
    done()
  }

  // After every hook of the host, so that request.user and request.session are there.
  const preHandler = async (request: FastifyRequest, reply: FastifyReply) => {
    if (!request.ws) return
    try {
      if (!hasSocket(request)) throw new errors.UPGRADE_REQUIRED(NO_SOCKET)
      const admitted = await admission.admit(request, channelOf(request))
      decide(request, { ...admitted, response: reply.raw })
    } catch (error) {
      const refusal = toRefusal(error, request)
      hub.metrics.count('upgrades_refused_total', 1, refusal.code)
      // A page is not shown the status of a refused upgrade and would try again for ever: it gets a close code.
      if (request.headers.origin === undefined || refusal.statusCode === 503) {
        endWithAnswer(request, reply)
        return answerError(reply, refusal)
      }
      decide(request, { refusal, response: reply.raw })
    }
  }

  const wsHandler = (socket: WebSocket, request: FastifyRequest) => {
    const decision = (request as Decided)[DECISION]!
    finishUpgrade(app, request.raw)
    takeOver(socket, decision.response, app)
    if ('refusal' in decision) return refuse(socket, decision.refusal)
    try {
      admission.checkRoom()
    } catch (error) {
      return refuse(socket, error as PushError)
    }
    accept(socket, request, decision)
  }

  const accept = (socket: WebSocket, request: FastifyRequest, { identity, topics, since }: Admitted) => {
    const connection = hub.connect(identity, createTransport(socket, request.raw.socket), topics, since)
    // Synchronously: a message that comes with the handshake would find no listener a tick later.
    listen(socket, connection)
    // Where nobody asks for the request it does not wait for the welcome: with all that hangs on it, it is 10 kB.
    void open(connection, since, options.callbacks.onConnect && request)
  }

  const open = async (connection: Connection, since: Since, request: FastifyRequest | undefined) => {
    try {
      await hub.welcome(connection, since)
      dispatcher.release(connection)
      if (request && !connection.isClosing) await options.callbacks.onConnect?.(connection, request)
    } catch (error) {
      app.log.error({ err: error }, 'push: onConnect failed')
    }
  }

  // One listener of each kind for all sockets: closures for each would be 0.3 kB a connection.
  function onMessage(this: Connected, data: RawData, isBinary: boolean): void {
    dispatcher.receive(this[CONNECTION]!, data as Buffer, isBinary)
  }

  function onPong(this: Connected): void {
    this[CONNECTION]!.idle = 0
  }

  // What ws finds wrong (1002, 1007, 1009) it answers by itself; 'close' follows.
  const onError = (error: Error) => app.log.debug({ err: error }, 'push: socket error')

  function onClose(this: Connected, code: number, reason: Buffer): void {
    const connection = this[CONNECTION]!
    hub.disconnect(connection, code ?? DEFAULT_CLOSE_CODE)
    callOnDisconnect(connection, code, reason.toString())
  }

  const listen = (socket: Connected, connection: Connection) => {
    socket[CONNECTION] = connection
    socket.on('message', onMessage).on('error', onError).on('close', onClose)
    // Where bytes are counted, those of a pong are as good a sign of life as any.
    if (connection.received === undefined) socket.on('pong', onPong)
  }

  const callOnDisconnect = async (connection: Connection, code: number, reason: string) => {
    try {
      await options.callbacks.onDisconnect?.(connection, code, reason)
    } catch (error) {
      app.log.error({ err: error }, 'push: onDisconnect failed')
    }
  }

  const { path } = options
  const route = {
    method: 'GET',
    onRequest,
    preHandler,
    wsHandler,
    exposeHeadRoute: false,
    schema: { hide: true } as object,
    logSerializers: { req: withoutQuery },
  } as const
  for (const url of [path, `${path}/*`]) app.route({ ...route, url, handler: askForUpgrade })
  app.route({ ...route, url: `${path}/client.js`, handler: clientModule(options.origins) })
  // Before the handler: @fastify/websocket completes every upgrade that gets as far as that.
  const reserved = { method: 'GET', exposeHeadRoute: false, schema: route.schema } as const
  app.route({ ...reserved, url: `${path}/-/*`, preHandler: notFound, handler: notFound })
}

/** Reserved for other ways to connect: whoever had a channel there would lose it when one of them comes. */
async function notFound(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (request.ws) endWithAnswer(request, reply)
  reply.callNotFound()
  return reply
}

/** Nobody else ends the socket of a refused upgrade before the next sweep of the watch. */
function endWithAnswer(request: FastifyRequest, reply: FastifyReply): void {
  reply.raw.once('finish', () => request.raw.socket?.destroySoon?.())
}

function decide(request: Decided, decision: Decision): void {
  request[DECISION] = decision
}

/** Tickets and tokens stand in the query, and the line that Fastify logs for every request has the whole URL. */
function withoutQuery({ method, url, host, ip }: FastifyRequest) {
  return { method, url: url.split('?', 1)[0], host, remoteAddress: ip }
}

/** Fastify's types say always; the request that injectWS() makes up has none. */
function hasSocket({ raw }: FastifyRequest): boolean {
  return typeof (raw as { socket?: Partial<Socket> }).socket?.destroySoon === 'function'
}

function channelOf(request: FastifyRequest): string {
  const { '*': name } = request.params as { '*'?: string }
  return name ?? ''
}

function toRefusal(error: unknown, request: FastifyRequest): PushError {
  if (isPushError(error)) return error
  request.log.error({ err: error }, 'push: the upgrade failed')
  return new errors.INTERNAL('the upgrade failed')
}

/**
 * From here on the socket is ours: off the list whose members @fastify/websocket closes without a code when the
 * application closes, and without its error listener, which would cut off the close frame of an oversized message. Both
 * that listener and the response keep request and reply in memory, 3 kB, for as long as the socket lives.
 */
function takeOver(socket: WebSocket, response: ServerResponse, app: FastifyInstance): void {
  app.websocketServer.clients?.delete(socket)
  socket.removeAllListeners('error')
  // Whoever waits for the response to close is told by the socket.
  if (response.socket && response.listenerCount('close') === 0) response.detachSocket(response.socket)
}

function refuse(socket: WebSocket, refusal: PushError): void {
  socket.on('error', () => {})
  socket.close(closeCodeOf(refusal), closeReason(refusal.message))
  const timer = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT)
  socket.once('close', () => clearTimeout(timer))
}

/** As much of `text` as a close frame carries; a character that was cut in two is left out. */
function closeReason(text: string): string {
  return Buffer.from(text)
    .subarray(0, MAX_CLOSE_REASON_BYTES)
    .toString()
    .replace(/\ufffd$/, '')
}

/** Most often nginx was not told to hand the upgrade on: show which header got lost. */
async function askForUpgrade(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { upgrade, connection } = request.headers
  // A page is not shown the answer, so the operator has to find it here.
  request.log.info(
    { upgrade, connection, httpVersion: request.raw.httpVersion },
    'push: a plain GET came instead of an upgrade',
  )
  reply.header('upgrade', 'websocket').header('connection', 'Upgrade')
  answerError(
    reply,
    new errors.UPGRADE_REQUIRED(
      `this is a WebSocket: connect with ws:// or wss://. The request came as HTTP/${request.raw.httpVersion} with ` +
        `Upgrade: ${upgrade ?? '(missing)'} and Connection: ${connection ?? '(missing)'}. Behind nginx the location needs: ` +
        'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; ' +
        'proxy_set_header Host $http_host;',
    ),
  )
}

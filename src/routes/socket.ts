import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type {} from '@fastify/websocket'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { RawData, WebSocket } from 'ws'
import type { Line } from '../connection/coded-connection.ts'
import type { Connection } from '../connection/connection.ts'
import { Deflater } from '../connection/deflater.ts'
import { createTransport } from '../connection/transport.ts'
import type { Since } from '../delivery/recovery.ts'
import type { Codecs } from '../node/codecs.ts'
import { CLOSE_TIMEOUT } from '../node/heartbeat.ts'
import type { Hub } from '../node/hub.ts'
import type { Dispatcher } from '../node/inbound.ts'
import { authenticated } from '../node/renewals.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import type { Ref } from '../protocol/messages.ts'
import type { Address } from './addresses.ts'
import { type Admission, type Admitted, closeCodeOf, isTransient, type Visit } from './admission.ts'
import { clientModule } from './client-module.ts'
import { handshakeProblem } from './handshake.ts'
import { answerError } from './json-reply.ts'
import { claimUpgrade } from './subprotocol.ts'
import { closeReason, WaitingRoom } from './waiting-room.ts'
import type { SharedServer } from './websocket-server.ts'

interface SocketRoutes {
  hub: Hub
  options: Options
  admission: Admission
  dispatcher: Dispatcher
  server: SharedServer
  codecs: Codecs
}

/** What preHandler decided, for the handler that gets the socket. */
type Decision = (Admitted | Visit | { refusal: PushError }) & { response: ServerResponse }

// Properties instead of WeakMaps: the values of a WeakMap live until a full garbage collection, even after their keys are
// gone. With WeakMaps these objects made up two thirds of the garbage in V8's old generation.
const DECISION = Symbol('push.decision')
const CONNECTION = Symbol('push.connection')
const ADDRESS = Symbol('push.address')

type Decided = FastifyRequest & { [DECISION]?: Decision }
type Connected = WebSocket & { [CONNECTION]?: Connection; [ADDRESS]?: Address | undefined }

/** A client that asks for a smaller window cannot read what was compressed for all. No browser asks. */
const WINDOW = /server_max_window_bits/

/** How a connection came. */
interface Arrival extends Line {
  /** For onConnect. */
  request: FastifyRequest | undefined
  /** That of the first message, if it is to be answered. */
  ref?: Ref | undefined
}

function giveBackAddress(this: Connected): void {
  this[ADDRESS]!.connections--
}

const NO_SOCKET = 'injectWS has no socket: use openConnection of fastify-push-bridge/testing'

/** `path`, `path/` and `path/NAME`: WebSocket upgrades. A plain GET is answered with advice. */
export function socketRoutes(
  app: FastifyInstance,
  { hub, options, admission, dispatcher, server, codecs }: SocketRoutes,
): void {
  const { watch } = server
  const bounds = { milliseconds: options.limits.handshake, gate: admission.gate }
  const deflater = options.compression && new Deflater(options.compression)
  const room = new WaitingRoom({
    hub,
    admission,
    failed: error => app.log.error({ err: error }, 'push: an authenticate message failed'),
  })
  app.addHook('preClose', async () => room.close())

  const onRequest = (request: FastifyRequest, reply: FastifyReply, done: () => void) => {
    if (!request.ws) return done()
    claimUpgrade(request.raw, codecs.protocols)
    if (watch.hasRefused(request.raw)) return
    const excess = watch.adopt(request.raw, bounds)
    if (excess) return void answer(excess, request, reply)
    // Without a socket it is refused with advice later.
    const problem = hasSocket(request) ? handshakeProblem(request.headers) : undefined
    const refusal = problem ? new errors.BAD_MESSAGE(problem) : admission.enter(request)
    if (!refusal) return done()
    if (problem) reply.header('sec-websocket-version', '13')
    admission.refused(refusal)
    answer(refusal, request, reply)
  }

  const answer = (refusal: PushError, request: FastifyRequest, reply: FastifyReply) => {
    watch.answered(request.raw)
    endWithAnswer(request, reply)
    if (isTransient(refusal)) reply.header('retry-after', '1')
    return answerError(reply, refusal)
  }

  // After all hooks of the host, so that request.user and request.session exist.
  const preHandler = async (request: Decided, reply: FastifyReply) => {
    if (!request.ws) return
    try {
      if (!hasSocket(request)) throw new errors.UPGRADE_REQUIRED(NO_SOCKET)
      const admitted = await admission.admit(request, channelOf(request))
      // It took too long, and was answered.
      if (watch.hasRefused(request.raw)) return void reply.hijack()
      request[DECISION] = { ...admitted, response: reply.raw }
    } catch (error) {
      const refusal = toRefusal(error, request)
      if (watch.hasRefused(request.raw)) return void reply.hijack()
      admission.refused(refusal)
      // A page cannot see the status of a refused upgrade and would retry for ever: it gets a close code.
      if (request.headers.origin === undefined || isTransient(refusal)) return answer(refusal, request, reply)
      request[DECISION] = { refusal, response: reply.raw }
    }
  }

  const wsHandler = (socket: WebSocket, request: Decided) => {
    const decision = request[DECISION]!
    watch.finish(request.raw)
    takeOver(socket, decision.response, app)
    if ('refusal' in decision) return refuse(socket, decision.refusal)
    try {
      admission.checkRoom(decision)
    } catch (error) {
      admission.refused(error as PushError)
      return refuse(socket, error as PushError)
    }
    // Without onConnect the request can be freed before the welcome: it holds about 10 kB.
    const kept = options.callbacks.onConnect && request
    const isShared = server.isDeflating && !WINDOW.test(request.headers['sec-websocket-extensions'] ?? '')
    const transport = createTransport(socket, request.raw.socket, isShared ? deflater : undefined)
    const line = { transport, codec: codecs.of(socket.protocol) }
    hold(socket, decision.address)
    if ('identity' in decision) return void accept(socket, { ...line, request: kept }, decision)
    room.wait(socket, decision, line.codec, ({ admitted, early, ref }) => {
      const connection = accept(socket, { ...line, request: kept, ref }, admitted)
      for (const { data, isBinary } of early) dispatcher.receive(connection, data, isBinary)
    })
  }

  /** Counts the socket for its address for as long as it lives, whether or not the client says who it is. */
  const hold = (socket: Connected, address: string | undefined) => {
    if (address === undefined) return
    socket[ADDRESS] = admission.addresses.hold(address)
    socket.on('close', giveBackAddress)
  }

  const accept = (socket: WebSocket, { request, ref, ...line }: Arrival, { identity, topics, since }: Admitted) => {
    const connection = hub.connect(identity, line, topics, since)
    // Synchronously: a message that comes with the handshake would otherwise find no listener.
    listen(socket, connection)
    void open(connection, since, { request, ref })
    return connection
  }

  const open = async (connection: Connection, since: Since, { request, ref }: Omit<Arrival, keyof Line>) => {
    try {
      await hub.welcome(connection, since)
      if (ref !== undefined && !connection.isClosing) connection.reply('authenticated', authenticated(connection), ref)
      dispatcher.release(connection)
      if (request && !connection.isClosing) await options.callbacks.onConnect?.(connection, request)
    } catch (error) {
      app.log.error({ err: error }, 'push: onConnect failed')
    }
  }

  // Shared listeners: closures of its own would cost each connection 0.3 kB.
  function onMessage(this: Connected, data: RawData, isBinary: boolean): void {
    dispatcher.receive(this[CONNECTION]!, data as Buffer, isBinary)
  }

  function onControl(this: Connected): void {
    dispatcher.receiveControl(this[CONNECTION]!, this.readyState === this.OPEN)
  }

  // `ws` itself closes the socket after a protocol error (1002, 1007, 1009); 'close' follows.
  const onError = (error: Error) => {
    dispatcher.receiveBroken(error)
    app.log.debug({ err: error }, 'push: socket error')
  }

  async function onClose(this: Connected, code: number, reason: Buffer): Promise<void> {
    const connection = this[CONNECTION]!
    hub.disconnect(connection, code, reason.toString())
    try {
      await options.callbacks.onDisconnect?.(connection, code, reason.toString())
    } catch (error) {
      app.log.error({ err: error }, 'push: onDisconnect failed')
    }
  }

  const listen = (socket: Connected, connection: Connection) => {
    socket[CONNECTION] = connection
    socket.on('message', onMessage).on('error', onError).on('close', onClose)
    socket.on('ping', onControl).on('pong', onControl)
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
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const refusal = askForUpgrade(request, reply)
    admission.refused(refusal)
    answerError(reply, refusal)
  }
  for (const url of [path, `${path}/*`]) app.route({ ...route, url, handler })
  app.route({ ...route, url: `${path}/client.js`, handler: clientModule(options.origins) })
  // In preHandler, since @fastify/websocket completes every upgrade that reaches the handler.
  const reserved = { method: 'GET', exposeHeadRoute: false, schema: route.schema } as const
  app.route({ ...reserved, url: `${path}/-/*`, preHandler: notFound, handler: notFound })
}

/** Reserved for other ways to connect: a channel name there would stop working when one is added. */
export async function notFound(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (request.ws) endWithAnswer(request, reply)
  reply.callNotFound()
  return reply
}

/** Closes the socket after the answer to a refused upgrade: nothing else would before the next sweep of the watch. */
function endWithAnswer(request: FastifyRequest, reply: FastifyReply): void {
  reply.raw.once('finish', () => request.raw.socket?.destroySoon?.())
}

/** Fastify logs the URL of every request, and the query may hold a ticket or a token. */
export function withoutQuery({ method, url, host, ip }: FastifyRequest) {
  return { method, url: url.split('?', 1)[0], host, remoteAddress: ip }
}

/** False for the request of injectWS(), although Fastify's types promise a socket. */
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
 * Takes the socket from @fastify/websocket: off its list of clients, which it closes without a code when the application
 * closes, and without its error listener, which would cut off the close frame for an oversized message. That listener and
 * the response would also keep request and reply in memory, 3 kB, for as long as the socket lives.
 */
function takeOver(socket: WebSocket, response: ServerResponse, app: FastifyInstance): void {
  app.websocketServer.clients?.delete(socket)
  socket.removeAllListeners('error')
  // A listener that waits for the response to close needs its socket.
  if (response.socket && response.listenerCount('close') === 0) response.detachSocket(response.socket)
}

function refuse(socket: WebSocket, refusal: PushError): void {
  socket.on('error', () => {})
  socket.close(closeCodeOf(refusal), closeReason(refusal.message))
  const timer = setTimeout(() => socket.terminate(), CLOSE_TIMEOUT)
  socket.once('close', () => clearTimeout(timer))
}

/** Usually nginx did not forward the upgrade: show which header is missing. */
function askForUpgrade(request: FastifyRequest, reply: FastifyReply): PushError {
  const { upgrade, connection } = request.headers
  // A page cannot see the answer, so the log has to show it.
  request.log.info(
    { upgrade, connection, httpVersion: request.raw.httpVersion },
    'push: a plain GET came instead of an upgrade',
  )
  reply.header('upgrade', 'websocket').header('connection', 'Upgrade')
  return new errors.UPGRADE_REQUIRED(
    `this is a WebSocket: connect with ws:// or wss://. The request came as HTTP/${request.raw.httpVersion} with ` +
      `Upgrade: ${upgrade ?? '(missing)'} and Connection: ${connection ?? '(missing)'}. Behind nginx the location needs: ` +
      'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; ' +
      'proxy_set_header Host $http_host;',
  )
}

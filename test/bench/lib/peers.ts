/**
 * How a peer is spoken to: `bridge` is plain WebSocket with the project's JSON, `sse` the same JSON over event streams, and
 * `socketio` engine.io 4 over WebSocket.
 */
export type Kind = 'bridge' | 'sse' | 'socketio'

export interface Peer {
  name: string
  kind: Kind
  about: string
  /** the npm package of it, installed only when it is asked for: it is large, and not built for every machine */
  optional?: string
}

export const PEERS: Peer[] = [
  { name: 'ours', kind: 'bridge', about: 'this project' },
  { name: 'textbook', kind: 'bridge', about: 'Fastify + @fastify/websocket, JSON.stringify and send per client' },
  { name: 'ws', kind: 'bridge', about: 'plain ws, string encoded once, send per client' },
  { name: 'wsfastify', kind: 'bridge', about: 'the same behind Fastify + @fastify/websocket' },
  { name: 'socketio', kind: 'socketio', about: 'Socket.IO + @socket.io/redis-adapter, WebSocket only' },
  { name: 'bare', kind: 'bridge', about: 'limit: bare Node sockets, one write per message' },
  { name: 'joined', kind: 'bridge', about: 'limit: bare Node sockets, joined writes' },
]

/** Not among those that run unless they are named. */
export const OPTIONAL_PEERS: Peer[] = [
  {
    name: 'uws',
    kind: 'bridge',
    about: 'uWebSockets.js 20.30 (C++) with its own topics, and ioredis',
    optional: '@trufflesuite/uws-js-unofficial@20.30.0-unofficial.0',
  },
]

/** This project with presence, beside itself without. */
export const PRESENCE_PEERS: Peer[] = [
  PEERS[0]!,
  { name: 'ours-users', kind: 'bridge', about: 'who is online' },
  { name: 'ours-topic', kind: 'bridge', about: 'who is on each channel' },
  { name: 'ours-list', kind: 'bridge', about: 'the same, with lists of up to 10,000 members' },
]

/** This project and others, with compression and without. */
export const COMPRESSION_PEERS: Peer[] = [
  PEERS[0]!,
  { name: 'ours-deflate', kind: 'bridge', about: 'with compression' },
  PEERS.find(({ name }) => name === 'ws')!,
  { name: 'ws-deflate', kind: 'bridge', about: 'ws with permessage-deflate, its defaults' },
  { name: 'ws-deflate-alone', kind: 'bridge', about: 'the same without context takeover: each message by itself' },
  PEERS.find(({ name }) => name === 'socketio')!,
  { name: 'socketio-deflate', kind: 'socketio', about: 'Socket.IO with perMessageDeflate' },
]

/** This project with each codec. */
export const CODEC_PEERS: Peer[] = [
  PEERS[0]!,
  { name: 'ours-msgpack', kind: 'bridge', about: 'all clients speak push.msgpack' },
  { name: 'ours-protobuf', kind: 'bridge', about: 'all clients speak push.protobuf' },
]

/** This project with either transport. */
export const STREAM_PEERS: Peer[] = [PEERS[0]!, { name: 'ours-sse', kind: 'sse', about: 'over event streams' }]

/** This project without metrics and limits and with them, as registrations of one process. */
export const SIDES_PEER: Peer = {
  name: 'ours-sides',
  kind: 'bridge',
  about: 'with metrics and limits, and without, in turns',
}

/** This project, which can be asked to revoke a user; the scenario starts a second node beside it. */
export const REVOKING: Peer = { name: 'ours-revoke', kind: 'bridge', about: 'revokes when it is asked to' }

/** This project with a handler in worker threads. */
export const WORKING: Peer = { name: 'ours-workers', kind: 'bridge', about: 'a handler that computes, in two threads' }

/** Not a peer: it writes prebuilt bytes without Redis, to find out how much the loader can take. */
export const BLASTER: Peer = { name: 'blaster', kind: 'bridge', about: "the loader's own ceiling" }

import { connect } from 'node:net'
import { Redis } from 'ioredis'
import { FrameClient, frame, TEXT } from '../helpers/frame-client.ts'
import { until, within } from '../helpers/waiting.ts'
import { Findings, type Target, times } from './target.ts'
import { upgradeOf } from './wire.ts'
import type { World } from './world.ts'

/** Peers that stay away: each waits for a deadline of the node, so that many have to wait together. */
const WIDTH = 300

/** The node has to get rid of them by itself. Their sockets are closed by nobody else. */
async function outlast(client: FrameClient, found: Findings): Promise<void> {
  try {
    await within(client.ended, 'the end of a peer that stays away')
    found.saw(client.closeCode === undefined ? 'cut off' : `closed with ${client.closeCode}`)
  } finally {
    client.destroy()
  }
}

/** Requests that begin and do not end: nothing at all, a part of the header, or a byte now and then. */
export const slowHandshakes: Target = async (world, count, isOver) => {
  const found = new Findings()
  const request = upgradeOf('/ws')
  await times(count, { width: WIDTH, isOver }, async () => {
    found.inputs++
    const socket = connect(world.port, '127.0.0.1')
    // Whoever still writes may be told by a reset that the connection is gone: `events.once` would reject with it.
    const closed = new Promise(resolve =>
      socket
        .on('error', () => {})
        .on('close', resolve)
        .resume(),
    )
    const ended = within(closed, 'the end of a handshake that is not finished')
    const cut = world.random.index(request.length - 3)
    socket.write(request.slice(0, cut))
    const isSlow = world.random.next() < 0.5
    const timer = isSlow ? setInterval(() => socket.write(request[cut]!), 1000) : undefined
    try {
      await ended
      found.saw(cut === 0 && !isSlow ? 'ended, nothing sent' : isSlow ? 'ended, a byte a second' : 'ended')
    } finally {
      clearInterval(timer)
      socket.destroy()
    }
  })
  return found.of([
    { counter: 'connections_opened_total', least: 0, most: 0 },
    // A byte now and then may make nonsense of a header before its time is over.
    { counter: 'requests_refused_total', least: found.inputs, most: found.inputs },
  ])
}

/** Clients of which nothing is heard any more, as if their machine had lost the network. */
export const halfOpen: Target = (world, count, isOver) => stayAway(world, { count, isOver }, async () => {})

/** Clients that are closed and never answer: neither with a close frame nor by ending the connection. */
export const muteClosers: Target = (world, count, isOver) =>
  stayAway(world, { count, isOver }, async client => {
    const bad = frame(0x80 | TEXT, Buffer.from('no JSON'))
    client.write(Buffer.concat(Array.from({ length: 10 }, () => bad)))
    await until(() => client.closeCode !== undefined, 'the close frame')
  })

interface Staying {
  count: number
  isOver(): boolean
}

async function stayAway(
  world: World,
  { count, isOver }: Staying,
  begin: (client: FrameClient) => Promise<void>,
): Promise<ReturnType<Findings['of']>> {
  const found = new Findings()
  let opened = 0
  await times(count, { width: WIDTH, isOver }, async () => {
    const client = await FrameClient.open(world.port, '/ws')
    if (client.status !== 101) return found.problem(`a connection was refused with ${client.status}`)
    opened++
    found.inputs++
    await begin(client)
    await outlast(client, found)
  })
  const once = { least: opened, most: opened }
  return found.of([
    { counter: 'connections_opened_total', ...once },
    { counter: 'connections_closed_total', ...once },
  ])
}

/** Readers that never read, at the same time. The kernel holds some 4 MiB for each. */
const DEAF = 10

const LARGE = JSON.stringify({ type: 'large', payload: 'x'.repeat(200_000) })

/** Clients that subscribe and never read, while much is published to them. An input is a publication. */
export const deafReaders: Target = async (world, count, isOver) => {
  const found = new Findings()
  const redis = new Redis(world.redis.url)
  let opened = 0
  try {
    while (found.inputs < count && !isOver()) {
      const clients = await Promise.all(Array.from({ length: DEAF }, () => FrameClient.open(world.port, '/ws/deaf')))
      opened += clients.length
      const nodes = async () => Number(((await redis.pubsub('NUMSUB', 'push:channel:deaf')) as unknown[])[1])
      const isGone = async () => (await nodes()) === 0
      try {
        await until(() => clients.every(client => client.frames > 0), 'the welcomes')
        for (const client of clients) client.socket.pause()
        await until(async () => {
          found.inputs++
          await redis.publish('push:channel:deaf', LARGE)
          return isGone()
        }, 'the end of all who do not read')
      } finally {
        for (const client of clients) client.destroy()
      }
      found.saw('closed', clients.length)
    }
  } finally {
    redis.disconnect()
  }
  const once = { least: opened, most: opened }
  return found.of([
    { counter: 'connections_opened_total', ...once },
    { counter: 'connections_closed_total', ...once },
  ])
}

/**
 * Limit: bare Node sockets, frames queued per socket and joined into one write per socket and flush.
 *
 * A queue is a node of a tree: "what was queued before, then this frame". Sockets with the same queue stand on the same
 * node, so that a push is two comparisons and the joined bytes are made once for all of them.
 */
import type { Socket } from 'node:net'
import { listenBare, messageFrame, WELCOME } from '../lib/bare.ts'
import { REDIS_URL } from '../lib/contract.ts'
import { Members } from '../lib/members.ts'
import { Subscriber } from '../lib/resp.ts'

class Queue {
  bytes: Buffer | undefined
  next: Queue | undefined
  readonly size: number
  readonly before: Queue | undefined
  readonly frame: Buffer

  constructor(before: Queue | undefined, frame: Buffer) {
    this.before = before
    this.frame = frame
    this.size = frame.length + (before?.size ?? 0)
  }
}

interface Client {
  socket: Socket
  queue: Queue | undefined
}

let dirty: Client[] = []
const subscriber = new Subscriber(REDIS_URL, (channel, envelope) => {
  const clients = members.of(channel)
  if (!clients) return
  const frame = messageFrame(channel, envelope)
  if (dirty.length === 0) setImmediate(flush)
  let first: Queue | undefined
  for (const client of clients) {
    const before = client.queue
    if (before) {
      if (before.next?.frame !== frame) before.next = new Queue(before, frame)
      client.queue = before.next
    } else {
      first ??= new Queue(undefined, frame)
      client.queue = first
      dirty.push(client)
    }
  }
})
const members = new Members<Client>(subscriber)

function flush(): void {
  const clients = dirty
  dirty = []
  for (const client of clients) {
    const queue = client.queue!
    client.queue = undefined
    queue.bytes ??= join(queue)
    client.socket.write(queue.bytes)
  }
}

function join(queue: Queue): Buffer {
  if (!queue.before) return queue.frame
  const bytes = Buffer.allocUnsafe(queue.size)
  for (let at: Queue | undefined = queue; at; at = at.before) at.frame.copy(bytes, at.size - at.frame.length)
  return bytes
}

listenBare((socket, topics) => {
  const client: Client = { socket, queue: undefined }
  socket.on('close', () => members.leave(client, topics))
  void members.join(client, topics).then(() => socket.write(WELCOME))
})

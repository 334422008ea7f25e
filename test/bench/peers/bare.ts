/** Limit: bare Node sockets, frames built once, one write per message and socket, as soon as the message is read. */
import type { Socket } from 'node:net'
import { listenBare, messageFrame, WELCOME } from '../lib/bare.ts'
import { REDIS_URL } from '../lib/contract.ts'
import { Members } from '../lib/members.ts'
import { Subscriber } from '../lib/resp.ts'

const subscriber = new Subscriber(REDIS_URL, (channel, envelope) => {
  const sockets = members.of(channel)
  if (!sockets) return
  const bytes = messageFrame(channel, envelope)
  for (const socket of sockets) socket.write(bytes)
})
const members = new Members<Socket>(subscriber)

listenBare((socket, topics) => {
  socket.on('close', () => members.leave(socket, topics))
  void members.join(socket, topics).then(() => socket.write(WELCOME))
})

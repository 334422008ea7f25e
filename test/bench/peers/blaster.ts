/** No Redis, no queue: prebuilt bytes to every socket. How much of that the loader takes is the loader's ceiling. */
import type { Socket } from 'node:net'
import { frame, listenBare, WELCOME } from '../lib/bare.ts'

const sockets = new Set<Socket>()

interface Blast {
  frames: number
  size: number
  /** how many frames go into one write */
  join: number
}

function blast({ frames, size, join }: Blast): void {
  const one = frame(Buffer.alloc(size, 'x'))
  const many = Buffer.concat(Array.from({ length: join }, () => one))
  let left = frames
  const round = () => {
    for (const socket of sockets) socket.write(many)
    left -= join
    if (left > 0) setImmediate(round)
  }
  round()
}

listenBare(
  socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.write(WELCOME)
  },
  { blast: (args: Blast) => setImmediate(blast, args) && undefined },
)

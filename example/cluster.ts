/**
 * Several processes of example/server.ts on one machine, behind one port:
 *
 *   REDIS_URL=redis://127.0.0.1:6379 WORKERS=4 npx tsx example/cluster.ts
 *
 * How they share the port: this process, the primary, holds the listening socket and hands every accepted TCP
 * connection to the next worker. A WebSocket is one TCP connection from its upgrade to its end, so it stays with its
 * worker and nothing has to be sticky. What joins the workers is Redis: a publication reaches the workers that have
 * a connection for it, whichever of them, or of any other machine, it came from. Hence REDIS_URL is required.
 */
import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { greet } from './greeting.ts'

const FIRST_DELAY = 1_000
const MAX_DELAY = 30_000
const STABLE_AFTER = 30_000
const KILL_AFTER = 10_000

const { REDIS_URL } = process.env
const count = Number(process.env.WORKERS ?? availableParallelism())
const key = process.env.PUSH_API_KEY || randomBytes(24).toString('hex')

let stopping = false
let listening = false

/** Keeps one worker alive. One that keeps dying is started less and less often. */
function keep(failures: number): void {
  const startedAt = Date.now()
  const worker = cluster.fork({ PUSH_API_KEY: key, QUIET: '1' })
  const { pid } = worker.process
  worker.once('listening', () => console.log(`worker ${pid} listens`))
  worker.once('exit', (code, signal) => {
    if (stopping) return
    // A port in use or a refused HOST is not cured by trying again.
    if (!listening) return stop(code || 1)
    const isStable = Date.now() - startedAt > STABLE_AFTER
    const delay = isStable ? FIRST_DELAY : Math.min(FIRST_DELAY * 2 ** failures, MAX_DELAY)
    console.error(`worker ${pid} died (${signal ?? code}); another starts in ${delay / 1000} s`)
    setTimeout(() => stopping || keep(isStable ? 1 : failures + 1), delay).unref()
  })
}

/** Lets every worker take leave of its clients, who come back to another node; then ends by itself. */
function stop(code = 0): void {
  if (stopping) return
  stopping = true
  process.exitCode = code
  const workers = Object.values(cluster.workers ?? {}).filter(worker => worker !== undefined)
  for (const worker of workers) worker.process.kill('SIGTERM')
  setTimeout(() => {
    for (const worker of workers) worker.process.kill('SIGKILL')
  }, KILL_AFTER).unref()
}

if (!REDIS_URL || !(count >= 1)) {
  console.error(
    REDIS_URL
      ? `WORKERS is "${process.env.WORKERS}": it must be a number from 1 upwards`
      : 'REDIS_URL is not set, and only a Redis joins the workers: REDIS_URL=redis://127.0.0.1:6379 npx tsx example/cluster.ts',
  )
  process.exit(1)
}

cluster.setupPrimary({ exec: fileURLToPath(new URL('server.ts', import.meta.url)) })
cluster.once('listening', (_worker, { address, port }) => {
  listening = true
  const redis = { redis: REDIS_URL, redisPrefix: 'push:', connected: true }
  process.stdout.write(greet({ address: address ?? '127.0.0.1', port, key, ...redis }))
})
process.on('SIGTERM', () => stop()).on('SIGINT', () => stop())
for (let n = 0; n < count; n++) keep(0)

import { Redis } from 'ioredis'
import { WebSocket } from 'ws'

/** A client that does what clients do while others attack the node, and measures how long it takes. */
const BEAT = 20

const redis = new Redis(process.env.REDIS_URL!)
const socket = new WebSocket(`ws://127.0.0.1:${process.env.PORT}/ws?user=canary`, { perMessageDeflate: false })
let times: number[] = []
let open = new Map<number, number>()
let beats = 0
let end: string | undefined
let isWelcome = false

socket.on('message', data => {
  const { type, payload } = JSON.parse(String(data)) as { type: string; payload: { n?: number } }
  if (type === 'welcome') {
    isWelcome = true
    process.send!('ready')
  }
  const began = open.get(payload?.n ?? 0)
  if (began === undefined) return
  open.delete(payload.n!)
  times.push(performance.now() - began)
})
socket.on('error', () => {})
socket.on('close', (code, reason) => {
  end = `closed with ${code} ${reason}`
})

setInterval(() => {
  if (!isWelcome || socket.readyState !== WebSocket.OPEN) return
  const n = ++beats
  open.set(n, performance.now())
  if (n % 2) socket.send(JSON.stringify({ type: 'ping', payload: { n } }))
  else void redis.publish('push:user:canary', JSON.stringify({ type: 'beat', payload: { n } }))
}, BEAT)

/** Answers once all that was sent has come back. */
function report(): void {
  if (open.size > 0 && end === undefined) return void setTimeout(report, BEAT)
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number) => Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 10) / 10
  process.send!({ beats: sorted.length, p50: at(0.5), p99: at(0.99), max: at(0.9999), end })
  times = []
  open = new Map()
}

process.on('message', report)
process.once('disconnect', () => process.exit(0))

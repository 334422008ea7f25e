import { setTimeout as sleep } from 'node:timers/promises'
import { Journal } from '../journal.ts'
import type { PublishersConfig } from '../publishers.ts'
import { Random } from '../random.ts'
import { API_KEY, retentionOf } from '../topics.ts'
import { TOPICS } from './topics.ts'

/** Publishes through the HTTP door of the nodes of any peer. */
const GIVE_UP = 10_000
const RETRY = 60
const HTTP_TIMEOUT = 2500

const config = JSON.parse(process.env.CONFIG!) as PublishersConfig
const journal = new Journal(config.journal)
let isStopping = false

async function push(to: string, type: string, payload: object, idempotencyKey: string): Promise<void> {
  const url = config.urls[Math.floor(Math.random() * config.urls.length)]!
  // Peers take no notice of the last two.
  const body = JSON.stringify({ to, type, payload, history: retentionOf(to), idempotencyKey })
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/push`, {
    method: 'POST',
    headers,
    body,
    signal: AbortSignal.timeout(HTTP_TIMEOUT),
  })
  const text = await answer.text()
  if (answer.status !== 200) throw new Error(`${answer.status} ${text}`)
}

async function publish(lane: string, topic: string, type: string, k: string, bytes: number): Promise<string> {
  journal.write({ e: 'try', k, topic, lane })
  const since = Date.now()
  for (;;) {
    try {
      await push(topic, type, { k, pad: 'x'.repeat(bytes) }, k)
      journal.write({ e: 'ack', k, topic, lane })
      return k
    } catch (error) {
      journal.write({ e: 'fail', k, message: String(error) })
      if (Date.now() - since > GIVE_UP) return k
      await sleep(RETRY)
    }
  }
}

async function run(lane: string, random: Random): Promise<void> {
  for (let n = 0; !isStopping; n++) {
    await publish(lane, random.pick(TOPICS), 'n', `${lane}-${n}`, random.index(200))
    await sleep(config.pace * (0.5 + random.next()))
  }
}

const lanes = Array.from({ length: config.lanes }, (_, i) => run(`http${i}`, new Random(config.seed * 37 + i)))

process.on('message', async message => {
  const command = message as { e: 'stop' } | { e: 'canary'; round: number }
  if (command.e === 'stop') {
    isStopping = true
    await Promise.all(lanes)
    process.send!({ e: 'stopped' })
  } else {
    const key = (topic: string) => `canary-${command.round}-${topic}`
    const sent = TOPICS.map(async topic => [topic, await publish('canary', topic, 'canary', key(topic), 0)])
    process.send!({ e: 'canaries', canaries: Object.fromEntries(await Promise.all(sent)) })
  }
})
process.on('disconnect', () => process.exit(0))
process.send!({ e: 'ready' })

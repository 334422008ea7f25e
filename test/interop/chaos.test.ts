import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runChaos } from '../helpers/chaos.ts'

/** The long runs are `npm run test:chaos -- --ingress rabbitmq,kafka`. */
const ARGUMENTS = ['--seed', '87', '--seconds', '4', '--clients', '20', '--visitors', '4']
const KINDS = ['rabbitmq-kill', 'rabbitmq-cut', 'kafka-hole', 'node-kill', 'redis-kill']

test('nothing from RabbitMQ or Kafka is lost or comes twice while they, nodes and Redis fail (seed 87)', async () => {
  const { code, output } = await runChaos(...ARGUMENTS, '--ingress', 'rabbitmq,kafka', '--kinds', KINDS.join(','))
  assert.equal(code, 0, output)
  for (const kind of KINDS) assert.match(output, new RegExp(`faults .*\\b${kind} [1-9]`))
  assert.match(output, /through queues .*rabbitmq [1-9]/)
  assert.match(output, /through queues .*kafka [1-9]/)
})

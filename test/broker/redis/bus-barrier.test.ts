import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BusBarrier } from '../../../src/broker/redis/bus-barrier.ts'
import type { CommandLink } from '../../../src/broker/redis/commands.ts'
import { errors } from '../../../src/protocol/errors.ts'
import { within } from '../../helpers/waiting.ts'

/** A server of a Cluster, and what was published there. */
function server(answer: unknown = 1) {
  const published: string[] = []
  const link = {
    async run([[, channel, mark]]: [string[]]) {
      published.push(`${channel} ${mark}`)
      return [answer]
    },
  }
  return { published, link: link as unknown as CommandLink }
}

test('it is passed when the mark of each server has come', async () => {
  const barrier = new BusBarrier('push:node:n')
  const servers = [server(), server()]
  let isPassed = false
  const passed = barrier.passed(servers.map(({ link }) => link)).then(() => {
    isPassed = true
  })
  const marks = servers.map(({ published }) => published[0]!.replace('push:node:n ', ''))
  for (const other of ['12', 'bus', 'bus 0', '', marks[0]!]) barrier.heard(other)
  await new Promise(setImmediate)
  assert.equal(isPassed, false)
  barrier.heard(marks[1]!)
  await within(passed, 'the barrier is passed')
})

test('a server that cannot be asked is not waited for', async () => {
  const barrier = new BusBarrier('push:node:n')
  await within(barrier.passed([server(new errors.BROKER_AWAY('no')).link]), 'the barrier is passed')
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Welcomes } from '../../src/node/welcome.ts'
import type { TopicState } from '../../src/protocol/messages.ts'
import type { Topic } from '../../src/protocol/topic.ts'

const OF_NODE = { node: 'n"1', protocol: 1, heartbeat: { interval: 25000, timeout: 10000 } }

test('a welcome is what JSON.stringify would write, whatever a user or a channel is called', () => {
  const welcomes = new Welcomes(OF_NODE)
  for (const user of [null, '42', 'a"b\\c', '日本', '__proto__']) {
    const topics: Topic[] = ['all', 'connection:c1', 'channel:"x"\\', 'channel:__proto__']
    const known = new Map<Topic, TopicState>([['all', { id: 't.1.1-0', seq: 1, recovered: true }]])
    const payload = {
      connection: 'c1',
      user,
      ...OF_NODE,
      features: ['ack', 'recovery'],
      topics: Object.fromEntries(topics.map(topic => [topic, known.get(topic) ?? {}])),
    }
    const text = welcomes.encode({ id: 'c1', user }, ['ack', 'recovery'], topics, known)
    assert.equal(text, JSON.stringify({ type: 'welcome', payload }))
  }
})

test('without places every topic is named all the same', () => {
  const text = new Welcomes(OF_NODE).encode({ id: 'c1', user: null }, [], ['all', 'connection:c1'], undefined)
  assert.deepEqual(JSON.parse(text).payload.topics, { all: {}, 'connection:c1': {} })
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ClusterWatch } from '../../../src/broker/redis/cluster-watch.ts'
import type { CommandLink } from '../../../src/broker/redis/commands.ts'
import { keysOfTopic } from '../../../src/broker/redis/names.ts'
import { hasSlot, type MasterAddress, mastersIn, sharedSlots, slotOf } from '../../../src/broker/redis/topology.ts'
import { freePort, startRedis } from '../../helpers/redis.ts'

test('property: a slot is the one that Redis says, and that of all keys of a topic', async t => {
  const { admin } = await startRedis(t, { args: ['--cluster-enabled', 'yes', '--cluster-port', `${await freePort()}`] })
  const name = fc.stringMatching(/^[^\s{}*]{1,20}$/u)
  const property = fc.asyncProperty(name, async name => {
    const channel = `push:channel:${name}`
    assert.equal(slotOf(channel), await admin.call('CLUSTER', 'KEYSLOT', channel))
    for (const key of keysOfTopic(channel, 'k')) assert.equal(slotOf(key), slotOf(channel))
  })
  await fc.assert(property, { numRuns: 200 })
})

test('masters are read from what CLUSTER SLOTS says, whether or not a server knows its own address', () => {
  const reply = [
    [0, 99, ['10.0.0.1', 6379, 'a', []], ['10.0.0.4', 6379, 'x', []]],
    [100, 199, ['', 6380, 'b']],
    [200, 299, ['10.0.0.1', 6379, 'a']],
    [300, 399, [null, 6381, 'c']],
  ]
  assert.deepEqual(mastersIn(reply, { host: 'asked' }), [
    {
      id: 'a',
      host: '10.0.0.1',
      port: 6379,
      slots: [
        [0, 99],
        [200, 299],
      ],
    },
    { id: 'b', host: 'asked', port: 6380, slots: [[100, 199]] },
    { id: 'c', host: 'asked', port: 6381, slots: [[300, 399]] },
  ])
  for (const nothing of [undefined, null, 'x', []]) assert.deepEqual(mastersIn(nothing, { host: 'asked' }), [])
})

test('property: slots that two have are counted as if one by one', () => {
  const range = fc.tuple(fc.nat(60), fc.nat(20)).map(([first, length]): [number, number] => [first, first + length])
  /** Ranges of one master do not overlap. */
  const slots = fc
    .array(range, { maxLength: 4 })
    .map(ranges =>
      ranges
        .toSorted((a, b) => a[0] - b[0])
        .filter(([first], i, all) => i === 0 || all.slice(0, i).every(it => it[1] < first)),
    )
  const property = fc.property(slots, slots, (a, b) => {
    const both = Array.from({ length: 100 }, (_, slot) => slot).filter(
      slot => hasSlot({ slots: a }, slot) && hasSlot({ slots: b }, slot),
    )
    assert.equal(sharedSlots({ slots: a }, { slots: b }), both.length)
  })
  fc.assert(property)
})

test('what is no reply to CLUSTER SLOTS ends no looking, and is told', async t => {
  const failures: string[] = []
  const answers: unknown[][] = [
    [[[0]], ''],
    [[], ''],
    [new Error('ERR no'), ''],
  ]
  const commands = { isUp: true, address: { host: 'h', port: 1 }, run: async () => answers.shift()! }
  const watch = new ClusterWatch(
    {
      seeds: [],
      connect: () => assert.fail('no seed'),
      links: () => [{ commands: commands as unknown as CommandLink }],
    },
    { seen: () => assert.fail('seen'), failed: ({ message }) => void failures.push(message) },
  )
  t.after(() => watch.close())
  // It looks from the beginning: this is that look.
  await watch.look()
  assert.equal(failures.length, 1)
  await watch.look()
  await watch.look()
  assert.deepEqual(failures.slice(1), ['h:1 knows no master of the Cluster', 'ERR no'])
})

test('a server that was cut off, with an older view of the Cluster, is not believed', async t => {
  const views: string[] = []
  const failures: string[] = []
  const say = (epoch: number, id: string) => [[[0, 16_383, ['127.0.0.1', 1, id]]], `cluster_current_epoch:${epoch}\r\n`]
  const answers = [say(5, 'new'), say(4, 'old'), say(6, 'newer')]
  const commands = { isUp: true, address: { host: 'h', port: 1 }, run: async () => answers.shift()! }
  const watch = new ClusterWatch(
    {
      seeds: [],
      connect: () => assert.fail('no seed'),
      links: () => [{ commands: commands as unknown as CommandLink }],
    },
    {
      seen: (view: readonly MasterAddress[]) => void views.push(view[0]!.id),
      failed: ({ message }) => void failures.push(message),
    },
  )
  t.after(() => watch.close())
  // It looks from the beginning: this is that look.
  await watch.look()
  await watch.look()
  await watch.look()
  assert.deepEqual(views, ['new', 'newer'])
  assert.deepEqual(failures, ['h:1 has an older view of the Cluster than others'])
})

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { CommandLink } from '../../../src/broker/redis/commands.ts'
import type { Functions } from '../../../src/broker/redis/functions.ts'
import { type ClusterMaster, ClusterMasters } from '../../../src/broker/redis/masters.ts'
import { Names } from '../../../src/broker/redis/names.ts'
import { type MasterAddress, slotOf } from '../../../src/broker/redis/topology.ts'
import { errors, type PushError } from '../../../src/protocol/errors.ts'
import { until, within } from '../../helpers/waiting.ts'

const NONE: never[] = []

type Range = [first: number, last: number, at: [host: string, port: number, id: string]]

/** A server that answers `its name`, or does not answer before it is closed. */
class FakeMaster implements ClusterMaster {
  readonly names = new Names('p:')
  readonly commands: CommandLink
  readonly functions: Functions
  readonly id: string
  asked = 0
  #isMute: boolean
  #onClosed: (() => void)[] = []

  constructor({ id }: MasterAddress, isMute: boolean) {
    this.id = id
    this.#isMute = isMute
    const run = (list: readonly unknown[]) => this.#answer(list)
    // It is not up, so that the seed is asked how the Cluster looks.
    this.commands = { isUp: false, run } as unknown as CommandLink
    this.functions = { run } as unknown as Functions
  }

  async #answer(list: readonly unknown[]): Promise<(string | PushError)[]> {
    this.asked++
    if (!this.#isMute) return list.map(() => this.id)
    await new Promise<void>(resolve => this.#onClosed.push(resolve))
    return list.map(() => new errors.CLOSED())
  }

  moveTo(): void {}

  keysMoved(): void {}

  close(): void {
    for (const resolve of this.#onClosed.splice(0)) resolve()
  }
}

/** Two masters with half of the slots each, of which the first does not answer; `leave` lets it leave the Cluster. */
async function twoMasters(t: TestContext) {
  const half = 8192
  let epoch = 1
  let view: Range[] = [
    [0, half - 1, ['h', 1, 'first']],
    [half, 16_383, ['h', 2, 'second']],
  ]
  const seed = {
    on: () => {},
    connect: async () => {},
    call: async (_name: string, question: string) => (question === 'SLOTS' ? view : `cluster_current_epoch:${epoch}`),
    disconnect: () => {},
  }
  const made: FakeMaster[] = []
  const masters = new ClusterMasters<FakeMaster>(
    { seeds: [{ host: 'h', port: 1 }], connect: () => seed as unknown as Redis },
    {
      create(address) {
        const master = new FakeMaster(address, address.id === 'first')
        made.push(master)
        return master
      },
      changed: () => {},
      failed: error => assert.fail(error),
    },
  )
  t.after(() => masters.close())
  await until(() => masters.isComplete, 'the first view')
  const leave = () => {
    epoch++
    view = [[0, 16_383, ['h', 2, 'second']]]
    return masters.look()
  }
  const key = Array.from({ length: 100 }, (_, n) => `k${n}`).find(name => slotOf(name) < half)!
  return { masters, first: made[0]!, leave, key }
}

test('commands that wait for a master which leaves the Cluster go to the one that has the slot then', async t => {
  const { masters, first, leave, key } = await twoMasters(t)
  const running = masters.run(key, [['GET', key]], 10_000)
  const calling = masters.call([{ name: 'push_heads', keys: [key], args: NONE }], 10_000)
  await until(() => first.asked === 2, 'the first master is asked')
  await leave()
  assert.deepEqual(await within(running, 'an answer to the command'), ['second'])
  assert.deepEqual(await within(calling, 'an answer to the call'), ['second'])
})

test('when all is closed, whoever waits is told so', async t => {
  const { masters, first, key } = await twoMasters(t)
  const running = masters.run(key, [['GET', key]], 10_000)
  await until(() => first.asked === 1, 'the first master is asked')
  masters.close()
  const [reply] = await within(running, 'an answer')
  assert.equal((reply as PushError).code, 'PUSH_ERR_CLOSED')
})

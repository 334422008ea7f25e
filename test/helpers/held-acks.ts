import type { TestContext } from 'node:test'
import type { Client } from '../../src/client/index.ts'

/** The option for nodes whose clients are given up on by the test. Longer than any test lasts. */
export const ACKS_HELD = { publishTimeout: 800_004 }
/** Clients have this share of it. No other timer is as long. */
const TIMER = ACKS_HELD.publishTimeout * 0.75

/**
 * From here on a publication with `ack` waits for its clients until the test calls `giveUp`: not a second and a half, which a
 * busy machine may take to bring an acknowledgement, and which a test that expects none would have to wait.
 */
export function holdAcks(t: TestContext): () => void {
  const held: (() => void)[] = []
  const original = globalThis.setTimeout
  t.mock.method(globalThis, 'setTimeout', ((run: () => void, ms: number, ...args: unknown[]) => {
    if (ms !== TIMER) return original(run, ms, ...(args as []))
    held.push(run)
    return {}
  }) as never)
  return () => {
    for (const run of held.splice(0)) run()
  }
}

/**
 * Resolves when the node has all that the client says to what the node had sent before: the first answer comes behind that, and
 * the second question behind what the client said to it.
 */
export async function roundTrips(client: Client): Promise<void> {
  for (let n = 0; n < 2; n++) {
    await client.request('no-such-type').then(
      () => {},
      ({ code }: { code: string }) => {
        if (code !== 'PUSH_ERR_UNKNOWN_TYPE') throw new Error(`no round trip: ${code}`)
      },
    )
    await new Promise(resolve => setImmediate(resolve))
  }
}

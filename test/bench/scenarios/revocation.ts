import { REVOKING } from '../lib/peers.ts'
import { number, type Outcome, type Processes, type Run, type Scenario } from '../lib/scenario.ts'

const NODES = 2
const CONNECTIONS = 1000
const ROUNDS = 10
/** Milliseconds for all closes: more than anybody should need. */
const TIMEOUT = 10_000

/** How soon is a user gone everywhere, from the call on one node to the close that its clients get from both? */
export const scenario: Scenario = {
  id: 'v',
  title: 'revocation: one user has 1,000 connections, half of them on another node; ten users, one after the other',
  variants: ['revocation'],
  peers: [REVOKING],
  columns: [
    { key: 'p50', label: 'p50 ms', digits: 1 },
    { key: 'p99', label: 'p99 ms', digits: 1 },
    { key: 'max', label: 'max ms', digits: 1 },
    { key: 'call', label: 'call max ms', digits: 1 },
    { key: 'closed', label: 'closed %', digits: 1 },
  ],
  async run(run) {
    const nodes = [run, await run.another(REVOKING)]
    const rounds = run.quick ? 2 : ROUNDS
    const calls: number[] = []
    const closes: number[] = []
    // Unmeasured first, so that nothing is measured cold.
    for (let round = 0; round <= rounds; round++) {
      const { call, delays } = await revoke(run, nodes, number('r', round))
      if (round === 0) continue
      calls.push(call)
      closes.push(...delays)
    }
    return outcome(closes, calls, rounds)
  },
}

/** Milliseconds that the call took, and those from the call to each close. */
async function revoke(run: Run, nodes: readonly Processes[], user: string) {
  const count = CONNECTIONS / NODES
  const clients = Array.from({ length: count }, () => ({ topics: [], user }))
  for (const { server, load } of nodes) {
    const { kind } = run.peer
    await load.request('connect', { kind, port: server.port, clients, concurrency: 200, offer: {} })
  }
  const closing = nodes.map(({ load }) => load.request<number[]>('closes', { count, timeout: TIMEOUT }))
  const { calledAt, doneAt } = await run.server.request<{ calledAt: number; doneAt: number }>('revoke', { user })
  const times = (await Promise.all(closing)).flat()
  return { call: (doneAt - calledAt) / 1000, delays: times.map(at => (at - calledAt) / 1000) }
}

function outcome(closes: readonly number[], calls: readonly number[], rounds: number): Outcome {
  const sorted = closes.toSorted((a, b) => a - b)
  const quantile = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  const expected = rounds * CONNECTIONS
  const missing = expected - closes.length
  return {
    metrics: {
      complete: Number(missing === 0),
      p50: quantile(0.5),
      p99: quantile(0.99),
      max: sorted.at(-1) ?? Number.NaN,
      call: Math.max(...calls),
      closed: (100 * closes.length) / expected,
    },
    notes: missing === 0 ? [] : [`${REVOKING.name}: ${missing} connections were not closed within ${TIMEOUT} ms`],
  }
}

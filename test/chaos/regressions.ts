import type { Topology } from './store.ts'

interface Regression {
  seed: number
  topology: Topology
  found: string
}

/** Seeds that once failed, and what they found. */
export const REGRESSIONS: readonly Regression[] = [
  {
    seed: 1,
    topology: 'single',
    found: 'a shared page that was read before the client came: what lay between was lost',
  },
  {
    seed: 101,
    topology: 'nginx',
    found: 'a link for commands lost while a topic was joined left its barrier closed for ever',
  },
  { seed: 3, topology: 'single', found: 'a gap that was overtaken by a replay led the client back' },
  {
    seed: 203,
    topology: 'sentinel',
    found: 'of two failovers at a time, one of which could not be, the judge took the end of one for that of the other',
  },
  {
    seed: 1349,
    topology: 'single',
    found: 'a node that thawed after a rollback told a client that it had missed nothing, going by what it held itself',
  },
  { seed: 1033, topology: 'single', found: 'a tick that came late over a throttled link looked like a rollback' },
  {
    seed: 1171,
    topology: 'single',
    found: 'a link that was given up once for each of the calls on it, until Node warned of too many listeners',
  },
  {
    seed: 111,
    topology: 'cluster-sharded',
    found: 'whoever subscribed while a slot moved was told a gap of a recorded topic',
  },
  {
    seed: 120,
    topology: 'cluster-sharded',
    found: 'a place before the first entry outlived a failover, once the slot had moved to another master',
  },
]

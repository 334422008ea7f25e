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
  {
    seed: 3003,
    topology: 'cluster-sharded',
    found:
      'a share that had begun anew had a change of the same number on a replica that was behind: its users stayed for ever',
  },
  {
    seed: 3004,
    topology: 'cluster',
    found: 'a master that was frozen and replaced woke up and numbered changes of who is there, which nodes followed',
  },
  {
    seed: 3156,
    topology: 'cluster',
    found: 'changes of who is there waited for a shard that did not answer, though they were of another one',
  },
  {
    seed: 3314,
    topology: 'cluster-sharded',
    found: 'the judge took the place of a client for known whose topic was on its way',
  },
  {
    seed: 3354,
    topology: 'cluster-sharded',
    found: 'a gap that was announced and did not come before the connection broke was not told by the next one',
  },
]

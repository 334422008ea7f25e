import { buildPrograms, forgetPrograms, type Replacement } from './build.ts'
import { CLUSTER_MUTANTS } from './cluster-mutants.ts'
import { INGRESS_MUTANTS } from './ingress-mutants.ts'
import { CHAIN_IGNORED, GAP_FILLER, type Mutant } from './mutant.ts'
import { PRESENCE_MUTANTS } from './presence-mutants.ts'
import { Queues } from './queues.ts'
import { lineOf } from './report.ts'
import { runBounded, type SeedOptions } from './seed-run.ts'
import { isCluster, type Topology } from './store.ts'
import type { Verdict } from './verdict.ts'

const LUA = 'src/broker/redis/push.lua'
const BARRIER = 'src/connection/replay-barrier.ts'
const RECOVERY = 'src/delivery/recovery.ts'

const ORDINARY: readonly Mutant[] = [
  {
    name: 'subscribes after it has read the history',
    replacements: [
      {
        file: RECOVERY,
        find: 'await answers.confirmed(topic)\n    const position = answers.get(topic)\n',
        replace: `const since = id ?? NO_ID
    const position = undefined
    const early = await this.#read(connection, topic, since, barrier)
    await new Promise(resolve => setTimeout(resolve, 50))
    await this.#parts.broker.subscribe([topic])
    if (early) return {
      state: { ...early.head, recovered: early.gap === undefined },
      ...(early.gap && { gap: early.gap }),
      replay: () => this.#replay(connection, topic, barrier, { ...early, isComplete: true }),
    }\n`,
      },
      {
        file: RECOVERY,
        find: 'page.isComplete && barrier.isCoveredBy(page.end, page.readAt)',
        replace: 'page.isComplete',
      },
    ],
    kinds: ['mass-disconnect', 'node-kill'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'does not catch up after a lost link',
    replacements: [
      {
        file: GAP_FILLER,
        find: 'for (const [topic, cursor] of this.#cursors) if (this.#isRecorded(topic, cursor)) this.#startFilling(cursor)\n',
        replace: 'for (const cursor of this.#cursors.values()) cursor.last = undefined\n',
      },
      {
        file: GAP_FILLER,
        find: "if (lost.size > 0) this.#events.lost('broker_link', lost)",
        replace: '',
      },
    ],
    kinds: ['client-kill-pubsub', 'link-cut'],
    caughtAs: ['hole', 'missing'],
  },
  {
    // The chain of ids fills what slips through without the barrier: either alone is not seen from outside, both are.
    name: 'has no barrier: catches up while its SUBSCRIBE is under way, and trusts that nothing was missed',
    replacements: [
      {
        file: 'src/broker/redis/subscriptions.ts',
        find: 'const done = await this.#tell([...this.#wanted])\n',
        replace: `const done = await this.#tell([])
    const topics = [...this.#wanted]
    setTimeout(() => era === this.#era && this.#tell(topics), 100)\n`,
      },
      CHAIN_IGNORED,
    ],
    kinds: ['client-kill-pubsub', 'link-cut'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'counts without an identity, and Redis goes back in time',
    replacements: [
      {
        file: LUA,
        find: "if not timeline or (not is_noticed and (args[5] == '1' or (known and (not tick or tick < known)))) then",
        replace: 'if not timeline then',
      },
      {
        file: LUA,
        find: 'if entry[2][4] == since or is_first then return nil end',
        replace: 'if entry_seq <= since_seq + 1 then return nil end',
      },
      {
        file: 'src/broker/redis/cursor.ts',
        find: "if (previous !== '-') return previous === last.id",
        replace: 'if (previous !== "-") return position.seq === last.seq + 1',
      },
      {
        file: LUA,
        find: "if since_seq > seq then return gap('history_replaced', id, seq) end",
        replace: "if since_seq > seq then return { '', since, since_seq, 1 } end",
      },
    ],
    kinds: ['redis-rollback'],
    caughtAs: ['missing', 'order', 'duplicate', 'hole', 'history', 'liveness'],
  },
  {
    name: 'leaves topics their timeline when Redis goes back in time',
    replacements: [{ file: LUA, find: 'if timeline_of(state[1]) < timeline then', replace: 'if false then' }],
    kinds: ['redis-rollback', 'node-kill', 'mass-disconnect'],
    caughtAs: ['missing', 'hole', 'gap-untold', 'order', 'duplicate'],
  },
  {
    name: 'publishes again without an idempotency key',
    replacements: [
      {
        file: 'test/chaos/publishers.ts',
        find: '{ type, payload, history: retentionOf(topic), idempotencyKey }',
        replace: '{ type, payload, history: retentionOf(topic) }',
      },
    ],
    kinds: ['drop-reply'],
    caughtAs: ['duplicate'],
  },
  {
    name: 'publishes outside the script: some messages are sent and not recorded',
    replacements: [
      {
        file: LUA,
        find: "redis.call('XADD', history,",
        replace: "if seq % 9 ~= 0 then redis.call('XADD', history,",
      },
      { file: LUA, find: "'p', previous, 'e', envelope)", replace: "'p', previous, 'e', envelope) end" },
    ],
    kinds: ['mass-disconnect', 'client-kill-pubsub'],
    caughtAs: ['hole', 'missing', 'history', 'gap-unjustified'],
  },
  {
    name: 'drops for a slow reader without a word',
    replacements: [
      {
        file: 'src/connection/backlog.ts',
        find: "kept.push(coded(gapSegment([...topics], 'slow_consumer')))",
        replace: 'void gapSegment',
      },
    ],
    kinds: ['reader-stall'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'always says gap',
    replacements: [
      {
        file: RECOVERY,
        find: 'const { gap, head } = page\n',
        replace: "const { head } = page\n    const gap = page.gap ?? ('history_replaced' as const)\n",
      },
    ],
    kinds: ['mass-disconnect'],
    caughtAs: ['gap-unjustified'],
  },
  {
    name: 'does not say that the history was trimmed',
    replacements: [
      {
        file: LUA,
        find: 'if entry[2][4] == since or is_first then return nil end',
        replace: 'if true then return nil end',
      },
    ],
    kinds: ['history-trim', 'mass-disconnect', 'node-kill'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'sends live what it has replayed',
    replacements: [
      { file: BARRIER, find: 'if (isCovered(position, this.#until)) return undefined\n', replace: '' },
      { file: BARRIER, find: 'return rest\n', replace: 'return segment\n' },
    ],
    kinds: ['mass-disconnect', 'node-kill'],
    caughtAs: ['duplicate', 'order'],
  },
  {
    name: 'lets live messages overtake the replay',
    replacements: [
      {
        file: BARRIER,
        find: 'if (!position) return this.#wait(segment)\n      this.expect(position)\n      return undefined',
        replace: 'if (position) this.expect(position)\n      return segment',
      },
    ],
    kinds: ['mass-disconnect', 'node-kill', 'reader-stall'],
    caughtAs: ['hole', 'order', 'duplicate'],
  },
  {
    name: 'does not fill a hole that it sees',
    replacements: [
      {
        file: GAP_FILLER,
        find: 'const different = new Set(await this.#retrying(era, () => this.#source.different(present())))',
        replace: 'const different = new Set<Topic>()',
      },
      CHAIN_IGNORED,
      { file: GAP_FILLER, find: '      this.#noteNewest(cursor, position)\n    } else if', replace: '    } else if' },
    ],
    kinds: ['client-kill-pubsub', 'pubsub-limit'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'never lets go of a connection that is gone',
    replacements: [
      {
        file: 'src/node/hub.ts',
        find: 'for (const topic of this.registry.remove(connection)) this.broker.unsubscribe(topic)',
        replace:
          'if (code === 1000) for (const topic of this.registry.remove(connection)) this.broker.unsubscribe(topic)',
      },
    ],
    kinds: ['mass-disconnect'],
    caughtAs: ['leak', 'error'],
  },
  {
    name: 'has no watch over upgrades that lead nowhere',
    replacements: [
      {
        file: 'src/routes/upgrade-watch.ts',
        find: "server.prependListener('upgrade', this.#onUpgrade)",
        replace: '',
      },
    ],
    kinds: ['mass-disconnect'],
    caughtAs: ['leak'],
  },
]

export const MUTANTS: readonly Mutant[] = [...ORDINARY, ...INGRESS_MUTANTS, ...PRESENCE_MUTANTS, ...CLUSTER_MUTANTS]

/** Most are caught by the first. What shows only if several things happen together may take some. */
const SEEDS = Array.from({ length: 16 }, (_, i) => i + 1)
const SECONDS = 4

type OptionsFor = (seed: number, programs: string) => SeedOptions

/** Every broken product must be caught, and under a right name. */
export async function runMutants(
  names: readonly string[],
  optionsFor: OptionsFor,
  base: readonly Replacement[],
): Promise<boolean> {
  const chosen = chosenBy(names, optionsFor(0, '').topology)
  const { ingress } = optionsFor(0, '')
  const queues = await Queues.start([...ingress, ...chosen.flatMap(mutant => mutant.ingress ?? [])])
  let survivors = 0
  for (const mutant of chosen) {
    const programs = await buildPrograms([...base, ...mutant.replacements])
    const caught = await hunt(mutant, seed => ({
      ...inTopology(mutant, optionsFor(seed, programs)),
      ingress: mutant.ingress ? [mutant.ingress] : ingress,
      queues,
      seconds: SECONDS,
      kinds: mutant.kinds,
    }))
    if (!caught) survivors++
    process.stdout.write(caught ? `caught    ${mutant.name}: ${caught}\n` : `SURVIVED  ${mutant.name}\n`)
    forgetPrograms(programs)
  }
  await queues.close()
  process.stdout.write(`${chosen.length - survivors} of ${chosen.length} broken variants were caught\n`)
  return chosen.length > 0 && survivors === 0
}

/** With a Cluster given, only those for which it takes one: the faults of the others are of one Redis. */
function chosenBy(names: readonly string[], topology: Topology): Mutant[] {
  return MUTANTS.filter(mutant => {
    if (isCluster(topology) && !CLUSTER_MUTANTS.includes(mutant)) return false
    return names.length === 0 || names.some(part => mutant.name.includes(part))
  })
}

function inTopology(mutant: Mutant, options: SeedOptions): SeedOptions {
  if (!CLUSTER_MUTANTS.includes(mutant) || isCluster(options.topology)) return options
  return { ...options, topology: 'cluster' }
}

async function hunt({ caughtAs }: Mutant, optionsOf: (seed: number) => SeedOptions): Promise<string | undefined> {
  for (const seed of SEEDS) {
    const verdict = await runBounded(optionsOf(seed))
    const word = caughtAs.find(name => verdict.violations.some(({ invariant }) => invariant === name))
    if (word) return `${word} with seed ${seed} (${countsOf(verdict)})`
    if (verdict.violations.length > 0) process.stdout.write(`  under another name: ${lineOf(verdict)}\n`)
  }
  return undefined
}

function countsOf({ violations }: Verdict): string {
  const counts = new Map<string, number>()
  for (const { invariant } of violations) counts.set(invariant, (counts.get(invariant) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ')
}

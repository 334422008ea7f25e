import type { Replacement } from './build.ts'
import { CHAIN_IGNORED, type Mutant } from './mutant.ts'

const BROKER = 'src/broker/redis/broker.ts'
const COMMANDS = 'src/broker/redis/commands.ts'
const FUNCTIONS = 'src/broker/redis/functions.ts'
const MASTERS = 'src/broker/redis/masters.ts'
const ROUTES = 'src/broker/redis/topic-routes.ts'
const SUBSCRIBER = 'src/broker/redis/subscriber.ts'
const TIMELINE = 'src/broker/redis/timeline.ts'

const ADOPTS = 'if (target && target !== shard) void this.#adopt(target, shard.subscriber.release(topics), servers)'

/** Otherwise it would find out all the same, a few seconds later. */
const LOOKS_ONCE: Replacement = {
  file: 'src/broker/redis/cluster-watch.ts',
  find: 'const LOOK_INTERVAL = 5000',
  replace: 'const LOOK_INTERVAL = 600_000',
}

/** What only a Cluster shows, because of what happens to one shard of it and not to the others. */
export const CLUSTER_MUTANTS: readonly Mutant[] = [
  {
    name: 'has one timeline for all shards',
    replacements: [
      {
        file: TIMELINE,
        find: "get current(): string {\n    return this.#current ?? ''",
        replace: 'get current(): string {\n    return newestOfAll',
      },
      {
        file: TIMELINE,
        find: '    this.#current = timeline\n',
        replace: '    this.#current = timeline\n    if (timeline > newestOfAll) newestOfAll = timeline\n',
      },
      { file: TIMELINE, find: 'let lastTick = 0\n', replace: "let lastTick = 0\nlet newestOfAll = ''\n" },
    ],
    kinds: ['shard-failover', 'mass-disconnect'],
    caughtAs: ['gap-unjustified'],
  },
  {
    name: 'loads the functions on the masters of its start alone',
    replacements: [
      { file: FUNCTIONS, find: 'const LIBRARY = ', replace: 'let updates = 0\nconst LIBRARY = ' },
      {
        file: FUNCTIONS,
        find: 'const version = await this.#version(timeout)\n    if (isMissing(version))',
        replace:
          'if (++updates > 3) return\n    const version = await this.#version(timeout)\n    if (isMissing(version))',
      },
      {
        file: FUNCTIONS,
        find: 'const problem = isLate() ? undefined : await this.#load(left(), missing)',
        replace: 'const problem = missing === calls ? new errors.CLOSED() : undefined',
      },
    ],
    kinds: ['library-flush', 'master-join'],
    caughtAs: ['liveness', 'gap-unjustified'],
  },
  {
    name: 'does not subscribe anew where a slot went',
    replacements: [
      { file: ROUTES, find: ADOPTS, replace: 'if (target && target !== shard) shard.subscriber.release(topics)' },
    ],
    kinds: ['slot-move'],
    caughtAs: ['missing', 'hole', 'liveness'],
  },
  {
    name: 'forgets how far a topic was delivered when its slot moves',
    replacements: [
      {
        file: ROUTES,
        find: ADOPTS,
        replace:
          'if (target && target !== shard) void target.subscriber.adopt(new Map([...shard.subscriber.release(topics).keys()].map(topic => [topic, undefined])), servers)',
      },
    ],
    kinds: ['slot-move'],
    caughtAs: ['gap-unjustified', 'missing', 'hole'],
  },
  {
    name: 'catches up on one shard only',
    replacements: [
      {
        file: SUBSCRIBER,
        find: '    this.#gapFiller.restored()\n',
        replace:
          "    this.#isCaughtUp = !this.#options.node.endsWith('.1')\n    if (this.#isCaughtUp) return this.#events.change(undefined)\n    this.#gapFiller.restored()\n",
      },
      CHAIN_IGNORED,
    ],
    kinds: ['client-kill-pubsub', 'link-cut'],
    caughtAs: ['hole', 'missing'],
  },
  {
    name: 'does not follow MOVED',
    replacements: [
      {
        file: COMMANDS,
        find: "    if (replies?.some(([error]) => error?.message.startsWith('MOVED '))) this.#onRedirect()\n",
        replace: '',
      },
      { file: MASTERS, find: '/^(MOVED|ASK|', replace: '/^(ASK|' },
      LOOKS_ONCE,
    ],
    kinds: ['slot-move'],
    caughtAs: ['liveness', 'missing'],
  },
  {
    name: 'stays with a master that another one has replaced',
    replacements: [
      {
        file: MASTERS,
        find: '      if (old.host !== address.host || old.port !== address.port) master.moveTo(address)\n',
        replace: '      void old\n',
      },
    ],
    kinds: ['shard-failover', 'shard-kill'],
    caughtAs: ['liveness'],
  },
  {
    name: 'tells a gap to the topics of all shards when it loses one',
    replacements: [
      {
        file: BROKER,
        find: 'topics: () => (isCluster ? this.#topicsOf(shard) : this.#topics()),',
        replace: 'topics: () => this.#topics(),',
      },
    ],
    kinds: ['client-kill-pubsub', 'link-cut'],
    caughtAs: ['gap-unjustified'],
  },
  {
    name: 'has one answer for the topics of all shards that clients ask for together',
    replacements: [
      {
        file: BROKER,
        find: 'return this.masters instanceof OneMaster ? undefined : this.#routes.shardOf(topic)',
        replace: 'return topic === undefined ? this.#routes.shardOf(topic) : undefined',
      },
      { file: ROUTES, find: 'if (there.length < left.length) confirmed(there, answer)', replace: 'void confirmed' },
    ],
    kinds: ['link-hole', 'mass-disconnect'],
    caughtAs: ['gap-unjustified'],
  },
]

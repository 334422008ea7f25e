import type { Mutant } from './mutant.ts'

const LUA = 'src/broker/redis/push.lua'
const SHARE = 'src/node/presence/share.ts'
const WATCH = 'src/node/presence/watch.ts'
const WRITER = 'src/node/presence/share-writer.ts'

/** What goes wrong with who is there. */
export const PRESENCE_MUTANTS: readonly Mutant[] = [
  {
    name: 'has no grace: whoever reconnects has left',
    replacements: [
      {
        file: SHARE,
        find: 'else if (this.rule.grace > 0) this.#leaving.set(user, now + this.rule.grace)',
        replace: '',
      },
    ],
    kinds: ['mass-disconnect'],
    caughtAs: ['flicker'],
  },
  {
    name: 'has every node tell the leave of those on one that died',
    replacements: [
      {
        file: LUA,
        find: "if change == '0' or expires >= milliseconds or milliseconds < quiet then return 0 end",
        replace: 'if expires >= milliseconds or milliseconds < quiet then return 0 end',
      },
      {
        file: LUA,
        find: "change_member(presence, found[i], 0, 0, '', '')",
        replace: "change_member(presence, found[i], 0, -1, '', '')",
      },
      {
        file: LUA,
        find: "    redis.call('HDEL', presence.own, user)\n",
        replace: "    if since ~= -1 then redis.call('HDEL', presence.own, user) end\n",
      },
      { file: LUA, find: 'if not old then return end', replace: 'if not old and since ~= -1 then return end' },
      { file: LUA, find: 'local are_more = left > 0', replace: 'local are_more = false' },
      {
        file: LUA,
        find: "    redis.call('HDEL', presence.key, '@' .. owner)\n    total = ",
        replace: '    total = ',
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['roster', 'flicker', 'absent'],
  },
  {
    name: 'never takes away who was on a node that died',
    replacements: [
      {
        file: WRITER,
        find: 'for (const owner of reply.lapsed) void this.#purge(share.topic, owner)',
        replace: 'void this.#purge',
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['ghost'],
  },
  {
    name: 'does not join a list with what changes while it is read',
    replacements: [
      { file: WATCH, find: 'if (this.#waiting.length <= MAX_WAITING) this.#waiting.push(delta)', replace: '' },
      {
        file: WATCH,
        find: 'if (delta.epoch !== this.#epoch || delta.version !== this.#version + 1) return false',
        replace: 'if (delta.epoch !== this.#epoch) return false',
      },
      { file: WATCH, find: "if (delta.after !== (this.#marks.get(this.#version) ?? '')) return false", replace: '' },
    ],
    kinds: ['mass-disconnect', 'node-kill'],
    caughtAs: ['roster', 'ghost', 'absent'],
  },
  {
    name: 'does not notice that Redis lost who is there',
    replacements: [{ file: LUA, find: 'if change ~= base then return {', replace: 'if false then return {' }],
    kinds: ['redis-rollback'],
    caughtAs: ['ghost', 'absent'],
  },
  {
    name: 'has a user leave who is still on another node',
    replacements: [
      {
        file: LUA,
        find: 'local total = math.max(0, count_in(old) + count - before)',
        replace: 'local total = count',
      },
    ],
    kinds: ['mass-disconnect'],
    caughtAs: ['absent', 'flicker', 'ghost'],
  },
]

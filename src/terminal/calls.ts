import type { PublishResult } from '../publish/publish.ts'
import type { ScriptPublisher } from '../publisher.ts'
import { type Call, type Flags, type Given, listIn, numberIn, on, text, UsageError } from './command.ts'
import { printable, table, timeOf } from './table.ts'

async function payloadOf({ args, input }: Given): Promise<unknown> {
  const json = args[2] === '-' ? await input() : args[2]
  if (json === undefined) return undefined
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new UsageError(`the payload is not JSON: ${(error as Error).message}; write for example '{"text":"hello"}'`)
  }
}

const historyOf = (flags: Flags) => {
  const [size, ttl] = [numberIn(flags, 'size'), numberIn(flags, 'ttl')]
  if ((size === undefined) !== (ttl === undefined)) throw new UsageError('--size and --ttl go together: they record it')
  return size === undefined ? undefined : { size, ttl: ttl! }
}

const page = (flags: Flags) => ({ cursor: flags.cursor as string | undefined, count: numberIn(flags, 'count') })

interface Page {
  count: number
  anonymous: number
  members: readonly { user: string; connections: number; since: number; info?: unknown }[]
  cursor?: string
}

interface OneUser {
  user: string
  online: boolean
  count: number
  connections: readonly { id: string; node: string; since: number }[]
}

function showPublished({ topic, nodes, id, delivered, skipped, acknowledged, duplicate }: PublishResult): string {
  const rows = table([{ topic, nodes, id, delivered, skipped, acknowledged, duplicate }].map(known))
  return nodes === 0 ? `${rows}\nNo node has the topic: nobody is subscribed.` : rows
}

const known = (row: object) => Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined))

function showPage({ count, anonymous, members, cursor }: Page): string {
  const rows = members.map(({ since, ...member }) => ({ ...member, since: timeOf(since) }))
  const numbers = `${count} users, ${anonymous} connections without a user`
  const next = cursor === undefined ? '' : `\nThere are more: --cursor ${cursor}`
  return rows.length > 0 ? `${table(rows)}\n${numbers}${next}` : numbers
}

function showWho(result: Page | OneUser): string {
  if ('members' in result) return showPage(result)
  if (!result.online) return `${printable(result.user)} is not online`
  return table(result.connections.map(({ since, ...connection }) => ({ ...connection, since: timeOf(since) })))
}

/** The commands that ask or tell through Redis, with the calls of `createPublisher`. */
export const CALLS: Readonly<Record<string, Call>> = {
  publish: {
    usage: 'TOPIC TYPE [PAYLOAD]',
    about:
      'publish JSON, or the standard input for -; --receipt says how many got it, --size N --ttl SECONDS record it, --key repeats safely',
    flags: { receipt: on, ack: on, size: text, ttl: text, key: text },
    takes: [2, 3],
    run: async (publisher, given) => {
      const { args, flags } = given
      const options = {
        receipt: flags.receipt === true || undefined,
        ack: flags.ack === true || undefined,
        history: historyOf(flags),
        idempotencyKey: flags.key as string | undefined,
      }
      return publisher.publish(args[0]!, {
        type: args[1]! as never,
        payload: (await payloadOf(given)) as never,
        ...options,
      })
    },
    show: showPublished,
  },
  history: {
    usage: 'TOPIC',
    about: 'what is kept of a recorded topic: --last N (10), or --since ID',
    flags: { last: text, since: text },
    takes: [1, 1],
    run: (publisher, { args, flags }) => {
      const since = flags.since as string | undefined
      return publisher.history(args[0]!, {
        since,
        last: numberIn(flags, 'last') ?? (since === undefined ? 10 : undefined),
      })
    },
    show: ({ messages, id, seq, next, gap }: Awaited<ReturnType<ScriptPublisher['history']>>) => {
      const rows = messages.map(({ id, seq, type, payload }) => ({ seq, type, payload, id }))
      const head = `the topic is at ${seq} (${id})${gap ? `, and messages are missing: ${gap}` : ''}`
      return `${rows.length > 0 ? `${table(rows)}\n` : ''}${head}${next ? `\nThere are more: --since ${next}` : ''}`
    },
  },
  who: {
    usage: '[TOPIC | user:ID]',
    about: 'who is online, who is on a channel, or the connections of a user; nodes keep that with the option presence',
    flags: { cursor: text, count: text },
    takes: [0, 1],
    run: (publisher, { args: [topic = 'all'], flags }) => {
      if (topic === 'all') return publisher.users(page(flags))
      return topic.startsWith('user:') ? publisher.user(topic.slice(5)) : publisher.presence(topic, page(flags))
    },
    show: showWho,
  },
  close: {
    usage: 'user:ID|connection:ID [CODE [REASON]]',
    about: 'close connections on every node; with 4401 clients stay away',
    flags: {},
    takes: [1, 3],
    run: (publisher, { args: [target, code, reason] }) => {
      const number = code === undefined ? undefined : numberIn({ code }, 'code')
      return publisher.close(target!, number, reason)
    },
    show: ({ delivered = 0 }: PublishResult) => `${delivered} connections were closed`,
  },
  revoke: {
    usage: 'user:ID',
    about: 'close the connections of a user on every node, and keep out what they had until now',
    flags: {},
    takes: [1, 1],
    run: (publisher, { args }) => publisher.revoke(args[0]!),
    show: ({ delivered = 0 }: PublishResult) => `revoked; ${delivered} connections were closed`,
  },
  ticket: {
    usage: '',
    about: 'a secret for one connection: --user ID, --join and --allow with topics, --ttl SECONDS (30)',
    flags: { user: text, join: text, allow: text, ttl: text },
    takes: [0, 0],
    run: async (publisher, { flags }) => {
      const { user } = flags as { user?: string }
      const identity = {
        ...(user !== undefined && { user }),
        join: listIn(flags, 'join') ?? [],
        allow: listIn(flags, 'allow') ?? [],
      }
      return { ticket: await publisher.ticket(identity, numberIn(flags, 'ttl')) }
    },
    show: ({ ticket }: { ticket: string }) => ticket,
  },
  status: {
    usage: '',
    about: 'whether Redis can be reached, and how many nodes are alive',
    flags: {},
    takes: [0, 0],
    run: publisher => publisher.status(),
    show: (status: object) => table([known(status)]),
  },
}

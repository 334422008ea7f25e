import type { Mutant } from './mutant.ts'

const ROAD = 'src/ingress/streams/road.ts'
const QUEUE = 'src/ingress/rabbitmq/queue.ts'
const GROUP = 'src/ingress/kafka/group.ts'

/** So that a node is killed between two steps now and then. */
const PAUSE = 'await new Promise(resolve => setTimeout(resolve, 100))\n'

const STREAMS: readonly Mutant[] = [
  {
    name: 'ingress: acknowledges before it publishes',
    replacements: [
      {
        file: ROAD,
        find: '      const verdicts = await Promise.all(open.map(message => this.#judge(message)))\n',
        replace: `      await this.#queue.acknowledge(open.map(({ id }) => id))
      ${PAUSE}
      const verdicts = await Promise.all(open.map(message => this.#judge(message)))\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['missing'],
    ingress: 'streams',
  },
  {
    name: 'ingress: what is delivered again has another key',
    replacements: [
      {
        file: ROAD,
        find: '.take(body, this.#keyOf(id))',
        replace: ".take(body, this.#keyOf(id) + (tries > 1 ? tries : ''))",
      },
      {
        file: ROAD,
        find: '      await this.#patience.persist(() => this.#finish(done))\n',
        replace: `      ${PAUSE}
      await this.#patience.persist(() => this.#finish(done))\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['duplicate'],
    ingress: 'streams',
  },
  {
    name: 'ingress: all nodes take from a stream whose order is to hold',
    replacements: [
      {
        file: ROAD,
        find: '    const { strictOrder } = this.#options\n    const messages',
        replace: '    const strictOrder = false as boolean\n    const messages',
      },
    ],
    kinds: ['node-stop', 'link-delay'],
    caughtAs: ['order'],
    ingress: 'streams',
  },
]

const RABBITMQ: readonly Mutant[] = [
  {
    name: 'ingress from RabbitMQ: acknowledges before it publishes',
    replacements: [
      {
        file: QUEUE,
        find: '    const settled = await this.#settling.settle(body, message.messageId || randomUUID(), signal)\n',
        replace: `    setTimeout(() => this.#settling.settle(body, message.messageId || randomUUID(), signal), 100)
    const settled = 'published' as DeadLetter | 'published' | undefined\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['missing'],
    ingress: 'rabbitmq',
  },
  {
    name: 'ingress from RabbitMQ: what is delivered again has another key',
    replacements: [
      {
        file: QUEUE,
        find: 'settle(body, message.messageId || randomUUID(), signal)\n',
        replace: `settle(
      body,
      (message as { redelivered?: boolean }).redelivered ? randomUUID() : message.messageId || '',
      signal,
    )
    ${PAUSE}`,
      },
    ],
    kinds: ['node-kill', 'rabbitmq-cut'],
    caughtAs: ['duplicate'],
    ingress: 'rabbitmq',
  },
]

const KAFKA: readonly Mutant[] = [
  {
    name: 'ingress from Kafka: commits before it publishes',
    replacements: [
      {
        file: GROUP,
        find: '    for (const message of messages) {\n',
        replace: `    for (const { offset } of messages) consumer.resolveOffset(offset)
    const all = consumer as unknown as { uncommittedOffsets(): object; commitOffsetsIfNecessary(it: object): Promise<void> }
    await all.commitOffsetsIfNecessary(all.uncommittedOffsets())
    ${PAUSE}
    for (const message of messages) {\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['missing'],
    ingress: 'kafka',
  },
  {
    name: 'ingress from Kafka: what is fetched again has another key',
    replacements: [
      {
        file: GROUP,
        find: '        session.hasJoined = true\n',
        replace: '        session.hasJoined = true\n        joinedAt = Date.now()\n',
      },
      { file: GROUP, find: 'interface Session {\n', replace: 'let joinedAt = 0\n\ninterface Session {\n' },
      {
        // What a node fetches first after it has joined is what the one before it may have had.
        file: GROUP,
        find: ':$' + '{timestamp}`',
        replace: `:\${timestamp}\${Date.now() < joinedAt + 500 ? this.#parts.node : ''}\``,
      },
    ],
    kinds: ['node-kill', 'node-term'],
    caughtAs: ['duplicate'],
    ingress: 'kafka',
  },
]

export const INGRESS_MUTANTS: readonly Mutant[] = [...STREAMS, ...RABBITMQ, ...KAFKA]

import type { Outgoing, Sent } from '../broker.ts'
import type { PushError } from '../errors.ts'
import { isPushError } from '../errors.ts'
import type { Command, CommandLink } from './commands.ts'
import type { Names } from './names.ts'
import { collectAnswers } from './receipts.ts'

/** Publishes to Redis: what a node and a script without Fastify have in common. */
export class RedisCarrier {
  readonly #commands: CommandLink
  readonly #names: Names
  readonly #timeout: number

  constructor(commands: CommandLink, names: Names, timeout: number) {
    this.#commands = commands
    this.#names = names
    this.#timeout = timeout
  }

  /** All items in one round trip; one result each, within the timeout. */
  async publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]> {
    const deadline = performance.now() + this.#timeout
    const replies = await this.#commands.run(
      items.flatMap(item => this.#commandsFor(item)),
      this.#timeout,
    )
    let next = 0
    return Promise.all(
      items.map(({ receipt }) => {
        const listening = receipt === undefined ? undefined : replies[next++]
        const nodes = replies[next++]
        if (isPushError(nodes)) return nodes
        return receipt === undefined
          ? { nodes: Number(nodes) }
          : this.#withAnswers(receipt, Number(nodes), listening, deadline)
      }),
    )
  }

  #commandsFor({ topic, envelope, receipt }: Outgoing): Command[] {
    const channel = this.#names.channel(topic)
    const publish: Command = ['PUBLISH', channel, envelope]
    // PUBLISH counts pattern subscribers too, a debugging PSUBSCRIBE * for one, and those never answer.
    return receipt === undefined ? [publish] : [['PUBSUB', 'NUMSUB', channel], publish]
  }

  async #withAnswers(token: string, nodes: number, listening: unknown, deadline: number): Promise<Sent> {
    const exact = Array.isArray(listening) ? Number(listening[1]) : nodes
    const expected = Math.min(exact, nodes)
    const answers = await collectAnswers(this.#commands, this.#names, token, expected, deadline)
    return { nodes, answers, complete: answers.length >= expected }
  }
}

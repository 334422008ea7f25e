import type { Mutant } from './mutant.ts'

const ROAD = 'src/ingress/streams/road.ts'

export const INGRESS_MUTANTS: readonly Mutant[] = [
  {
    name: 'ingress: acknowledges before it publishes',
    replacements: [
      {
        file: ROAD,
        find: '      const verdicts = await Promise.all(open.map(message => this.#judge(message)))\n',
        replace: `      await this.#queue.acknowledge(open.map(({ id }) => id))
      await new Promise(resolve => setTimeout(resolve, 100))
      const verdicts = await Promise.all(open.map(message => this.#judge(message)))\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['missing'],
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
        find: '      await this.#persist(() => this.#finish(done))\n',
        replace: `      await new Promise(resolve => setTimeout(resolve, 100))
      await this.#persist(() => this.#finish(done))\n`,
      },
    ],
    kinds: ['node-kill'],
    caughtAs: ['duplicate'],
  },
]

import type { FastifyInstance } from 'fastify'

const REQUEST_HOOKS = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const

type Hooks = Record<(typeof REQUEST_HOOKS)[number], unknown[]> & { add(name: string, hook: unknown): void }

/**
 * Keeps request hooks of the host, including those that it adds later, off the routes of `scope`. A host that verifies a
 * JWT in a global onRequest hook would otherwise answer 401 to the key of the push API, which is in the same header.
 * Fastify has no public way to do this. Response hooks (helmet, metrics) and onRoute hooks (rate-limit, swagger) stay.
 * `own` may still be added. Returns false when Fastify does not keep its hooks where version 5 does.
 */
export function leaveRequestHooks(scope: FastifyInstance, own: unknown): boolean {
  const symbol = Object.getOwnPropertySymbols(scope).find(({ description }) => description === 'fastify.hooks')
  const hooks = symbol && (scope as unknown as Record<symbol, Hooks | undefined>)[symbol]
  if (!hooks || !REQUEST_HOOKS.every(name => Array.isArray(hooks[name]))) return false
  for (const name of REQUEST_HOOKS) hooks[name] = []
  const add = hooks.add.bind(hooks)
  hooks.add = (name, hook) => {
    if (hook === own || !(REQUEST_HOOKS as readonly string[]).includes(name)) add(name, hook)
  }
  return true
}

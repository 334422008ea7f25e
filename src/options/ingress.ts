import type { Ingress } from '../ingress/ingress.ts'
import { patternProblem } from '../protocol/topic.ts'
import { fail, isPlainObject } from './values.ts'

const NAME = /^[A-Za-z0-9_.:-]{1,64}$/

/** The roads that the option `ingress` has. Throws PUSH_ERR_OPTIONS for what is none. */
export function parseIngress(given: unknown): readonly Ingress[] {
  if (given === undefined) return []
  if (!Array.isArray(given)) fail('ingress', 'must be a list such as [streamsIngress({ topics: ["channel:*"] })]')
  for (const [i, road] of given.entries()) refuseRoad(`ingress.${i}`, road)
  const roads = given as Ingress[]
  const names = roads.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) fail('ingress', `has two roads that are called "${twice}": give one of them another name`)
  return roads
}

function refuseRoad(at: string, road: unknown): void {
  // Not only plain objects: a road may be of a class.
  const { name, topics, open } = (typeof road === 'object' && road !== null ? road : {}) as Partial<Ingress>
  if (typeof open !== 'function') {
    const hint = isPlainObject(road) ? ': call streamsIngress({ … }) with these options' : ''
    fail(at, `is no road: it has no open()${hint}`)
  }
  if (typeof name !== 'string' || !NAME.test(name)) fail(`${at}.name`, 'must be 1 to 64 of A-Z a-z 0-9 _ . : -')
  refuseTopics(`${at}.topics`, topics)
}

/** Throws unless `topics` says on which topics a queue may publish. */
export function refuseTopics(at: string, topics: unknown): asserts topics is readonly string[] {
  if (!Array.isArray(topics) || topics.length === 0) {
    fail(at, 'must name what may be published on, such as ["channel:orders.*"]: a queue has no rights by default')
  }
  const problem = topics.map(patternProblem).find(found => found !== undefined)
  if (problem) fail(at, `cannot be used: ${problem}`)
}

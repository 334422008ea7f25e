import { type Static, type TObject, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { errors } from '../protocol/errors.ts'
import { refuseTopics } from './ingress.ts'
import { isPlainObject, refuse, withDefaults } from './values.ts'

/** The options that every road from a queue has. */
export const ROAD_OPTIONS = {
  topics: Type.Array(Type.String(), {
    minItems: 1,
    description: 'topics or patterns such as "channel:orders.*": on which the queue may publish',
  }),
  tries: Type.Integer({
    minimum: 1,
    maximum: 1000,
    default: 5,
    description: 'how often a message may fail by its own fault, before it is a dead letter',
  }),
}

/** The name of a road, in metrics, status and log lines. */
export function nameOption(name: string) {
  return Type.String({
    pattern: '^[A-Za-z0-9_.:-]{1,64}$',
    default: name,
    description: 'in metrics, status and log lines: 1 to 64 of A-Z a-z 0-9 _ . : -',
  })
}

/** Fills in the defaults. Throws PUSH_ERR_OPTIONS, which names the wrong option of `road` and says what to write instead. */
export function parseRoad<S extends TObject>(schema: S, given: unknown, road: string): Static<S> {
  if (!isPlainObject(given)) throw new errors.OPTIONS(`${road} needs options: write topics, and where the queue is`)
  const options = withDefaults(schema, given)
  refuseTopics(`${road}.topics`, options.topics)
  const check = Compile(schema)
  if (!check.Check(options)) refuse(schema, check.Errors(options), options, `${road}.`)
  return options as Static<S>
}

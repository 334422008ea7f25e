import type { Static, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { errors } from '../protocol/errors.ts'

/** A TypeBox or other JSON schema of the payload for each published type. A type without a schema is not checked. */
export type PublicationSchemas = Record<string, TSchema>

/** The payload of each type: `interface Publications extends PublicationsOf<typeof schemas> {}`. */
export type PublicationsOf<Schemas extends Readonly<Record<string, TSchema>>> = {
  [Type in keyof Schemas]: Static<Schemas[Type]>
}

/** Returns what is wrong with a payload, as a sentence that names the path; undefined when it matches. */
export type PayloadCheck = (payload: unknown) => string | undefined

export function compilePayloadCheck(where: string, schema: TSchema): PayloadCheck {
  const validator = compile(where, schema)
  return payload => {
    try {
      if (validator.Check(payload)) return undefined
      const [first] = validator.Errors(payload)
      return `payload${first?.instancePath.replaceAll('/', '.') ?? ''} ${first?.message ?? 'does not match the schema'}`
    } catch (error) {
      // For example a recursive schema and 20,000 nested brackets, which overflow the stack.
      return `payload cannot be checked: ${(error as Error).message}`
    }
  }
}

function compile(where: string, schema: TSchema) {
  try {
    return Compile(schema)
  } catch (cause) {
    throw new errors.OPTIONS(`${where} cannot be compiled as a schema: ${(cause as Error).message}`, { cause })
  }
}

/** Checks published payloads. A missing payload is checked as `{}`, because that is what clients get. */
export class SchemaTable {
  readonly #checks = new Map<string, PayloadCheck>()

  constructor(schemas: PublicationSchemas) {
    for (const [type, schema] of Object.entries(schemas)) {
      this.#checks.set(type, compilePayloadCheck(`schemas["${type}"]`, schema))
    }
  }

  /** True when there is nothing to check. */
  get isEmpty(): boolean {
    return this.#checks.size === 0
  }

  has(type: string): boolean {
    return this.#checks.has(type)
  }

  problem(type: string, payload: unknown): string | undefined {
    const problem = this.#checks.get(type)?.(payload === undefined ? {} : payload)
    return problem && `type "${type}": ${problem}`
  }
}

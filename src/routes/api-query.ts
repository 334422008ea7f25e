import { errors } from '../protocol/errors.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'

/**
 * The parameters in `url` that are `known`, each once. Read from the URL itself, since the host may have another parser.
 * `isStrict: false` where the others belong to somebody else.
 */
export function queryOf(
  url: string,
  known: readonly string[],
  { isStrict }: { isStrict: boolean },
): Record<string, string> {
  const at = url.indexOf('?')
  const given = [...new URLSearchParams(at < 0 ? '' : url.slice(at))]
  const values = Object.fromEntries(given.filter(([name]) => isStrict || known.includes(name)))
  const unknown = unknownKey(values, known)
  if (unknown && known.length === 0) throw new errors.UNKNOWN_KEY('this route takes no parameters in the URL')
  if (unknown) throw new errors.UNKNOWN_KEY(`in the URL: ${unknown}`)
  const twice = known.find(name => given.filter(([it]) => it === name).length > 1)
  if (twice !== undefined) throw new errors.FIELD(`in the URL: ${twice} is given twice`)
  return values
}

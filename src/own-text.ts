/** V8 cuts no shorter ones out of another string. */
const MIN_SLICE = 13

/**
 * The same text in memory of its own. A name that was cut out of a URL or a message keeps all of that in memory, for as
 * long as the connection lives that has it.
 */
export function ownText<T extends string>(text: T): T {
  return text.length < MIN_SLICE ? text : (Buffer.from(text).toString() as T)
}

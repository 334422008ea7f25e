import type { DeadLetter } from '../settling.ts'
import type { RabbitMessage } from './library.ts'

/**
 * The body as text or bytes again: the library has decoded one whose content type is JSON. `JSON.stringify` gives back what
 * `JSON.parse` took in, but for spaces and repeated keys. Or why that cannot be done: it nests too deep for the stack.
 */
export function bodyOf({ body, contentType, contentEncoding }: RabbitMessage): Buffer | string | DeadLetter {
  if (Buffer.isBuffer(body)) return body
  if (contentType !== 'application/json' || contentEncoding) return String(body)
  try {
    return JSON.stringify(body)
  } catch {
    return { code: 'PUSH_ERR_JSON', reason: 'the body nests too deep' }
  }
}

export function isDeadLetter(body: Buffer | string | DeadLetter): body is DeadLetter {
  return typeof body === 'object' && 'reason' in body
}

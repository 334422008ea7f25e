import type { IncomingHttpHeaders } from 'node:http'

const KEY = /^[+/0-9A-Za-z]{22}==$/
/** A name, and the blanks around it. To take those off first, by a pattern of their own, costs the square of their number. */
const NAME = /^[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*$/

/**
 * Why `ws` will refuse this handshake; undefined when it will not. Looked at first: otherwise a ticket would be spent on it,
 * and the refusal would be nobody's.
 */
export function handshakeProblem(headers: IncomingHttpHeaders): string | undefined {
  if (headers.upgrade?.toLowerCase() !== 'websocket') return 'Upgrade is not websocket'
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) return 'Sec-WebSocket-Key is missing or is not 16 bytes in base64'
  const version = headers['sec-websocket-version']
  if (version !== '13' && version !== '8') return 'Sec-WebSocket-Version is not 13'
  const protocols = headers['sec-websocket-protocol']
  if (protocols === undefined) return undefined
  const names = protocols.split(',').map(name => NAME.exec(name)?.[1])
  const isList = !names.includes(undefined) && new Set(names).size === names.length
  return isList ? undefined : 'Sec-WebSocket-Protocol is not a list of different names'
}

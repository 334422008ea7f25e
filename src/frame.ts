const TEXT = 0x81
const BINARY = 0x82

/** One whole message as RFC 6455 bytes (section 5.2: final, not masked), built once however many sockets get it. */
export interface Frame {
  readonly bytes: Buffer
  /** Where the payload begins, for sockets that must frame it themselves. */
  readonly payloadStart: number
  readonly binary: boolean
}

export function encodeFrame(message: string | Uint8Array): Frame {
  const binary = typeof message !== 'string'
  const length = binary ? message.length : Buffer.byteLength(message)
  const payloadStart = length < 126 ? 2 : length < 65536 ? 4 : 10
  const bytes = Buffer.allocUnsafe(payloadStart + length)
  bytes[0] = binary ? BINARY : TEXT
  if (payloadStart === 2) {
    bytes[1] = length
  } else if (payloadStart === 4) {
    bytes[1] = 126
    bytes.writeUInt16BE(length, 2)
  } else {
    bytes[1] = 127
    bytes.writeUInt32BE(Math.floor(length / 2 ** 32), 2)
    bytes.writeUInt32BE(length % 2 ** 32, 6)
  }
  if (binary) bytes.set(message, payloadStart)
  else bytes.write(message, payloadStart, 'utf8')
  return { bytes, payloadStart, binary }
}

import { createHmac } from 'node:crypto'

/** Says that the call is ours and when it was made: `t=<seconds>,v1=<hex>`, one `v1` for each secret. */
export const SIGNATURE_HEADER = 'push-signature'

/** HMAC-SHA256 over the seconds, a dot and the body: whoever repeats an old call has an old time in it. */
export function sign(secrets: readonly string[], body: string | Buffer, milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000)
  const parts = secrets.map(secret => {
    const digest = createHmac('sha256', secret).update(`${seconds}.`).update(body).digest('hex')
    return `v1=${digest}`
  })
  return [`t=${seconds}`, ...parts].join(',')
}

import { readFileSync } from 'node:fs'
import type { JwtSettings } from './jwt.ts'

/** The flags of `serve` that are about tokens, for `parseArgs`. */
export const JWT_FLAGS = {
  'jwt-public-key': { type: 'string' },
  'jwt-jwks-url': { type: 'string' },
  'jwt-issuer': { type: 'string' },
  'jwt-audience': { type: 'string' },
  'jwt-claim': { type: 'string' },
} as const

export const JWT_USAGE = `
  JWT_SECRET                                     take JSON Web Tokens as well: HS256, with 32 characters or more
  JWT_PUBLIC_KEY    --jwt-public-key FILE        or RS256 or ES256, with this key
  JWT_JWKS_URL      --jwt-jwks-url URL           or RS256 and ES256, with the keys of a JSON Web Key Set
  JWT_ISSUER        --jwt-issuer TEXT            what "iss" must be; required unless JWT_SECRET is set
  JWT_AUDIENCE      --jwt-audience TEXT          what "aud" must have; required unless JWT_SECRET is set
  JWT_CLAIM         --jwt-claim push             the claim with the rights: {"join":["channel:news"],"allow":["channel:*"]}
`

/** HS256 is as strong as its secret (RFC 7518 section 3.2). */
const MIN_SECRET_LENGTH = 32

type Values = Record<string, string | boolean | undefined>

/** Undefined if no tokens are taken. The secret comes from the environment alone, where other users do not see it. */
export function readJwt(values: Values, env: NodeJS.ProcessEnv): JwtSettings | undefined {
  const text = (name: string) => {
    const flag = name.toLowerCase().replaceAll('_', '-')
    return (values[flag] as string | undefined) || env[name] || undefined
  }
  const secret = env.JWT_SECRET || undefined
  const file = text('JWT_PUBLIC_KEY')
  const jwks = text('JWT_JWKS_URL')
  const [issuer, audience, claim] = ['JWT_ISSUER', 'JWT_AUDIENCE', 'JWT_CLAIM'].map(text)
  const signers = [secret, file, jwks].filter(it => it !== undefined)
  if (signers.length > 1) throw new Error('only one of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL can be set')
  if (signers.length === 0) {
    if (issuer || audience || claim) {
      throw new Error('JWT_… is set, but none of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL: nobody signs the tokens')
    }
    return undefined
  }
  if (secret && secret.length < MIN_SECRET_LENGTH) {
    throw new Error(`JWT_SECRET has ${secret.length} characters and can be guessed: use ${MIN_SECRET_LENGTH} or more`)
  }
  // Who signs for others as well gives tokens that are not meant for this server.
  if (!secret && !(issuer && audience)) {
    throw new Error(
      'JWT_ISSUER (--jwt-issuer) and JWT_AUDIENCE (--jwt-audience) must be set: other tokens have the same key',
    )
  }
  if (jwks) checkAddress(jwks)
  return { secret, publicKey: file && readFileSync(file, 'utf8'), jwks, issuer, audience, claim: claim ?? 'push' }
}

function checkAddress(url: string): void {
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : { protocol: '', hostname: '' }
  const isHere = hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
  if (protocol === 'https:' || (protocol === 'http:' && isHere)) return
  throw new Error(
    'JWT_JWKS_URL (--jwt-jwks-url) must be https://, or http:// to this machine: else others choose the keys',
  )
}

import { createPublicKey, type KeyObject } from 'node:crypto'
import type { JWTPayload, JWTVerifyGetKey } from 'jose'
import type { Authentication } from '../options/options.ts'
import { isPlainObject } from '../options/values.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { checkAuthentication } from './authentication.ts'

/** Who signs the tokens, and what they must say. One of `secret`, `publicKey` and `jwks` is there. */
export interface JwtSettings {
  /** HS256. */
  secret?: string | undefined
  /** PEM: RS256 or ES256, as the key is. */
  publicKey?: string | undefined
  /** Address of a JSON Web Key Set: RS256 and ES256. */
  jwks?: string | undefined
  issuer?: string | undefined
  audience?: string | undefined
  /** The claim with `join`, `allow`, `data` and `info`. */
  claim: string
  /** Milliseconds between two looks at the key set, for a token that names a key that is not in it. */
  cooldown?: number
}

export type TokenReader = (token: unknown) => Promise<Authentication>

/** Seconds by which the clock of who signs may differ. */
const TOLERANCE = 5

const MAX_TOKEN_LENGTH = 16 * 1024

/** RFC 7518 section 3.3. */
const MIN_RSA_BITS = 2048

const COOLDOWN = 30_000
const KEYS_WITHIN = 5000
const KEYS_KEPT = 10 * 60_000

/** Milliseconds after which a key set that could not be fetched is asked for again: not for every client that comes. */
const RETRY = 1000

interface Signer {
  key: KeyObject | Uint8Array | JWTVerifyGetKey
  /** A key is used with its own algorithm only: else the public key of RS256 would be a secret for HS256 that everybody knows. */
  algorithms: string[]
}

/** Reads JSON Web Tokens. What they are checked with is loaded only where this is used. */
export async function tokenReader(settings: JwtSettings): Promise<TokenReader> {
  const { jwtVerify } = await import('jose')
  const { issuer, audience, claim } = settings
  const { key, algorithms } = await signerOf(settings)
  const checks = {
    algorithms,
    clockTolerance: TOLERANCE,
    requiredClaims: ['sub', 'exp'],
    ...(issuer && { issuer }),
    ...(audience && { audience }),
  }
  return async token => {
    if (typeof token !== 'string' || token.length > MAX_TOKEN_LENGTH) {
      throw new errors.UNAUTHENTICATED('a token is missing, or it is too long')
    }
    try {
      const { payload } = await jwtVerify(token, key as JWTVerifyGetKey, checks)
      const identity = identityIn(payload, claim)
      checkAuthentication(identity, 'the token')
      return identity
    } catch (error) {
      throw refusalFor(error)
    }
  }
}

async function signerOf({ secret, publicKey, jwks, cooldown }: JwtSettings): Promise<Signer> {
  if (secret !== undefined) return { key: new TextEncoder().encode(secret), algorithms: ['HS256'] }
  if (publicKey !== undefined) return signerWith(createPublicKey(publicKey))
  return { key: await keySetAt(jwks!, cooldown ?? COOLDOWN), algorithms: ['RS256', 'ES256'] }
}

function signerWith(key: KeyObject): Signer {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= MIN_RSA_BITS) return { key, algorithms: ['RS256'] }
  if (type === 'ec' && details?.namedCurve === 'prime256v1') return { key, algorithms: ['ES256'] }
  throw new Error(
    `JWT_PUBLIC_KEY (--jwt-public-key) is neither an RSA key of ${MIN_RSA_BITS} bits nor one of the curve P-256`,
  )
}

/** A token that names an unknown key causes another look at the set, since keys are replaced, but not before `cooldown`. */
async function keySetAt(url: string, cooldown: number): Promise<JWTVerifyGetKey> {
  const { createRemoteJWKSet, customFetch } = await import('jose')
  let retryAt = Number.NEGATIVE_INFINITY
  const fetchOrFail = async (address: string, options: RequestInit): Promise<Response> => {
    if (performance.now() < retryAt) throw keysAway()
    try {
      const response = await fetch(address, options)
      if (response.status === 200) return response
      throw new Error(`the answer has the status ${response.status}`)
    } catch (cause) {
      retryAt = performance.now() + RETRY
      throw keysAway(cause)
    }
  }
  return createRemoteJWKSet(new URL(url), {
    cooldownDuration: cooldown,
    timeoutDuration: KEYS_WITHIN,
    cacheMaxAge: KEYS_KEPT,
    [customFetch]: fetchOrFail,
  })
}

function keysAway(cause?: unknown): PushError {
  return new errors.BACKEND_AWAY('the keys of the tokens cannot be fetched (JWT_JWKS_URL): try again', { cause })
}

/** What a key set may do wrong; everything else is the fault of the token. */
const OF_KEY_SET = /^ERR_(JWKS_INVALID|JWKS_TIMEOUT|JOSE_GENERIC)$/

function refusalFor(error: unknown): PushError {
  if (isPushError(error)) return error
  const { code = '', message } = error as { code?: string; message: string }
  return OF_KEY_SET.test(code) ? keysAway(error) : new errors.UNAUTHENTICATED(`the token is not accepted: ${message}`)
}

function identityIn(payload: JWTPayload, claim: string): Authentication {
  const { sub, exp, iat, nbf, [claim]: rights } = payload
  const { join, allow, data, info } = (isPlainObject(rights) ? rights : {}) as Authentication
  // One that does not say when it was issued is older than every revocation.
  const issued = iat ?? nbf ?? 0
  return {
    user: sub!,
    ...(join !== undefined && { join }),
    ...(allow !== undefined && { allow }),
    ...(data !== undefined && { data }),
    ...(info !== undefined && { info }),
    expires: (exp! + TOLERANCE) * 1000,
    issuedAt: issued * 1000,
  }
}

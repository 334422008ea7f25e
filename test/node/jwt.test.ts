import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import { createServer as createServe } from '../../src/cli.ts'
import { type JwtSettings, tokenReader } from '../../src/node/jwt.ts'
import { JWT_FLAGS, JWT_USAGE, readJwt } from '../../src/node/jwt-environment.ts'
import { readSettings, type ServeSettings } from '../../src/node/serve-settings.ts'
import { openConnection, refusalOf } from '../helpers/app.ts'
import { path, temporaryFolder } from '../helpers/processes.ts'
import { startRedis } from '../helpers/redis.ts'
import { once, within } from '../helpers/waiting.ts'

const SECRET = 'a secret of thirty-two characters!!'
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })

const now = () => Math.floor(Date.now() / 1000)

type Claims = { [Claim in keyof JWTPayload]?: JWTPayload[Claim] | undefined }

interface Signing {
  alg?: string
  kid?: string
  key?: KeyObject | Uint8Array
}

/** A token that is accepted, but for `claims`; undefined leaves one out. */
function sign(claims: Claims = {}, { alg = 'HS256', kid, key = Buffer.from(SECRET) }: Signing = {}): Promise<string> {
  const payload = { sub: '42', iss: 'https://id.example', aud: 'push', iat: now(), exp: now() + 60, ...claims }
  const kept = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))
  return new SignJWT(kept).setProtectedHeader({ alg, ...(kid && { kid }) }).sign(key)
}

const CHECKED = { issuer: 'https://id.example', audience: 'push', claim: 'push' }

const HS256: JwtSettings = { ...CHECKED, secret: SECRET }
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }) as string

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test('HS256: who it is, what it may do, when it ends and since when', async () => {
  const read = await tokenReader(HS256)
  const [iat, exp] = [now() - 10, now() + 60]
  const push = { join: ['channel:a'], allow: ['channel:b.*'], data: { n: 1 }, info: { name: 'Ann' }, user: 'nobody' }
  const token = await sign({ iat, exp, push })
  assert.deepEqual(await read(token), {
    user: '42',
    join: ['channel:a'],
    allow: ['channel:b.*'],
    data: { n: 1 },
    info: { name: 'Ann' },
    expires: (exp + 5) * 1000,
    issuedAt: iat * 1000,
  })
  assert.deepEqual(await (await tokenReader({ ...HS256, claim: 'rights' }))(token), {
    user: '42',
    expires: (exp + 5) * 1000,
    issuedAt: iat * 1000,
  })
  assert.equal((await read(await sign({ iat: undefined }))).issuedAt, 0, 'older than every revocation')
})

test('RS256 and ES256, each with its own algorithm only', async () => {
  for (const [{ publicKey, privateKey }, alg] of [
    [rsa, 'RS256'],
    [ec, 'ES256'],
  ] as const) {
    const read = await tokenReader({ ...CHECKED, publicKey: pem(publicKey) })
    assert.equal((await read(await sign({}, { alg, key: privateKey }))).user, '42')
    const [other, otherAlg] = alg === 'RS256' ? [ec, 'ES256'] : [rsa, 'RS256']
    await assert.rejects(read(await sign({}, { alg: otherAlg, key: other.privateKey })), UNAUTHENTICATED)
    if (alg === 'RS256') await assert.rejects(read(await sign({}, { alg: 'PS256', key: privateKey })), UNAUTHENTICATED)
  }
  const { publicKey } = generateKeyPairSync('ed25519')
  await assert.rejects(
    tokenReader({ ...CHECKED, publicKey: pem(publicKey) }),
    /neither an RSA key of 2048 bits nor one of the curve/,
  )
})

const UNAUTHENTICATED = { code: 'PUSH_ERR_UNAUTHENTICATED', statusCode: 401 }

test('a public key is no secret: HS256 with it is refused, and so are "none" and what is not signed', async () => {
  const payload = base64({ sub: '42', iss: CHECKED.issuer, aud: 'push', iat: now(), exp: now() + 60 })
  const readers = [
    await tokenReader(HS256),
    await tokenReader({ ...CHECKED, publicKey: pem(rsa.publicKey) }),
    await tokenReader({ ...CHECKED, publicKey: pem(ec.publicKey) }),
  ]
  for (const read of readers) {
    for (const alg of ['none', 'None', 'NONE', '', undefined, null, 0, ['HS256']]) {
      for (const signature of ['', 'AA']) {
        await assert.rejects(read(`${base64({ alg, typ: 'JWT' })}.${payload}.${signature}`), UNAUTHENTICATED)
      }
    }
    for (const { publicKey } of [rsa, ec]) {
      for (const key of [pem(publicKey), pem(publicKey).trim(), publicKey.export({ type: 'spki', format: 'der' })]) {
        const text = `${base64({ alg: 'HS256', typ: 'JWT' })}.${payload}`
        const mac = createHmac('sha256', key as string)
          .update(text)
          .digest('base64url')
        await assert.rejects(read(`${text}.${mac}`), UNAUTHENTICATED)
      }
    }
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    await assert.rejects(read(await sign({}, { alg: 'RS256', key: privateKey })), UNAUTHENTICATED)
  }
})

test('a key in the header of a token is not believed', async () => {
  const mine = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const read = await tokenReader({ ...CHECKED, publicKey: pem(ec.publicKey) })
  const claims = { sub: '42', iss: CHECKED.issuer, aud: 'push', iat: now(), exp: now() + 60 }
  const header = {
    alg: 'ES256',
    jwk: await exportJWK(mine.publicKey),
    jku: 'http://127.0.0.1:1/',
    x5u: 'http://127.0.0.1:1/',
  }
  const token = await new SignJWT(claims).setProtectedHeader(header).sign(mine.privateKey)
  await assert.rejects(read(token), UNAUTHENTICATED)
})

test('rights that cannot be used are the fault of the token: a client need not try again', async () => {
  const read = await tokenReader(HS256)
  for (const claims of [
    { push: { allow: 'channel:a' } },
    { push: { join: ['all'] } },
    { push: { allow: [{ topics: 'channel:a', actions: ['everything'] }] } },
    { push: { info: 'x'.repeat(2000) } },
    { iat: now() + 600 },
    { sub: 'a b' },
  ]) {
    await assert.rejects(read(await sign(claims)), UNAUTHENTICATED, JSON.stringify(claims))
  }
  for (const push of ['text', 1, null, []]) assert.equal((await read(await sign({ push }))).user, '42')
})

test('every claim is checked: issuer, audience, times, and what must be there', async t => {
  // Some are about seconds, in which a slow machine may do nothing.
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const read = await tokenReader(HS256)
  const refused: Claims[] = [
    { iss: 'https://evil.example' },
    { iss: undefined },
    { aud: 'shop' },
    { aud: ['shop', 'mail'] },
    { aud: undefined },
    { sub: undefined },
    { exp: undefined },
    { exp: now() - 30 },
    { nbf: now() + 60 },
    { exp: '9999999999' as never },
  ]
  for (const claims of refused) await assert.rejects(read(await sign(claims)), UNAUTHENTICATED, JSON.stringify(claims))
  const accepted: Claims[] = [{ aud: ['shop', 'push'] }, { nbf: now() + 2 }, { exp: now() - 2 }]
  for (const claims of accepted) assert.equal((await read(await sign(claims))).user, '42')
  const anybody = await tokenReader({ secret: SECRET, claim: 'push' })
  assert.equal((await anybody(await sign({ iss: undefined, aud: undefined }))).user, '42')
})

test('what is no token is refused, and nothing of it is in the message', async () => {
  const read = await tokenReader(HS256)
  const whole = await sign()
  for (const token of [undefined, null, 1, {}, '', 'x', 'a.b', 'a.b.c', `${whole}x`, whole.slice(1), 'x'.repeat(1e6)]) {
    await assert.rejects(read(token), (error: Error & { code: string }) => {
      assert.equal(error.code, 'PUSH_ERR_UNAUTHENTICATED')
      assert.ok(!error.message.includes(whole.slice(10, 30)))
      return true
    })
  }
})

/** A key set over HTTP whose keys the test changes, and how often it was asked for. */
async function keySet(t: TestContext) {
  const served = { keys: [] as object[], asked: 0, status: 200 }
  const server = createServer((_request, response) => {
    served.asked++
    response.writeHead(served.status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys: served.keys }))
  }).listen(0, '127.0.0.1')
  t.after(() => server.close().closeAllConnections())
  await once(server, 'listening')
  return { served, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys` }
}

async function signer(kid: string, alg: 'RS256' | 'ES256') {
  const { publicKey, privateKey } =
    alg === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' },
    sign: () => sign({}, { alg, kid, key: privateKey }),
  }
}

test('a key set: keys are kept, replaced keys are found, and withdrawn ones end', async t => {
  const { served, url } = await keySet(t)
  const [first, second] = [await signer('1', 'RS256'), await signer('2', 'ES256')]
  served.keys = [first.jwk]
  const read = await tokenReader({ ...CHECKED, jwks: url, cooldown: 0 })
  assert.equal((await read(await first.sign())).user, '42')
  assert.equal((await read(await first.sign())).user, '42')
  assert.equal(served.asked, 1)
  served.keys = [second.jwk]
  assert.equal((await read(await second.sign())).user, '42')
  assert.equal(served.asked, 2)
  await assert.rejects(read(await first.sign()), UNAUTHENTICATED)
})

test('a key set: unknown keys do not make the node ask again and again', async t => {
  const { served, url } = await keySet(t)
  const [known, stranger] = [await signer('1', 'RS256'), await signer('x', 'RS256')]
  served.keys = [known.jwk]
  const read = await tokenReader({ ...CHECKED, jwks: url })
  await read(await known.sign())
  for (let i = 0; i < 20; i++) await assert.rejects(read(await stranger.sign()), UNAUTHENTICATED)
  assert.equal(served.asked, 1)
  // HS256 with what everybody can read in the set.
  const text = `${base64({ alg: 'HS256', kid: '1' })}.${base64({ sub: '1', iss: CHECKED.issuer, aud: 'push', exp: now() + 60 })}`
  const mac = createHmac('sha256', JSON.stringify(known.jwk)).update(text).digest('base64url')
  await assert.rejects(read(`${text}.${mac}`), UNAUTHENTICATED)
})

test('a key set that cannot be fetched is no fault of the token, and is not asked for by every client', async t => {
  const { served, url } = await keySet(t)
  served.status = 500
  const known = await signer('1', 'RS256')
  const read = await tokenReader({ ...CHECKED, jwks: url, cooldown: 0 })
  const token = await known.sign()
  for (let i = 0; i < 20; i++) await assert.rejects(read(token), { code: 'PUSH_ERR_BACKEND_AWAY', statusCode: 503 })
  assert.ok(served.asked < 20, `${served.asked}`)
})

test('the settings: one signer, named in the help, with a secret that cannot be guessed', t => {
  assert.equal(readJwt({}, {}), undefined)
  assert.deepEqual(readJwt({}, { JWT_SECRET: SECRET }), {
    secret: SECRET,
    publicKey: undefined,
    jwks: undefined,
    issuer: undefined,
    audience: undefined,
    claim: 'push',
  })
  const file = join(temporaryFolder(t), 'key.pem')
  writeFileSync(file, pem(ec.publicKey))
  const env = { JWT_PUBLIC_KEY: 'nowhere', JWT_ISSUER: 'i', JWT_AUDIENCE: 'a', JWT_CLAIM: 'rights' }
  const settings = readJwt({ 'jwt-public-key': file }, env)!
  assert.deepEqual([settings.publicKey, settings.issuer, settings.claim], [pem(ec.publicKey), 'i', 'rights'])
  for (const [wrong, why] of [
    [{ JWT_SECRET: 'short' }, /JWT_SECRET has 5 characters/],
    [{ JWT_SECRET: SECRET, JWT_JWKS_URL: 'https://x/' }, /only one of/],
    [{ JWT_ISSUER: 'i' }, /nobody signs/],
    [{ JWT_JWKS_URL: 'https://x/', JWT_ISSUER: 'i' }, /must be set/],
    [{ JWT_JWKS_URL: 'http://x/', JWT_ISSUER: 'i', JWT_AUDIENCE: 'a' }, /must be https/],
    [{ JWT_JWKS_URL: 'nonsense', JWT_ISSUER: 'i', JWT_AUDIENCE: 'a' }, /must be https/],
    [{ JWT_PUBLIC_KEY: '/nowhere.pem', JWT_ISSUER: 'i', JWT_AUDIENCE: 'a' }, /ENOENT/],
  ] as const) {
    assert.throws(() => readJwt({}, wrong), why)
  }
  const documented = readFileSync(path('docs/operations.md'), 'utf8')
  for (const flag of Object.keys(JWT_FLAGS)) {
    for (const text of [JWT_USAGE, documented]) assert.match(text, new RegExp(`--${flag}\\b`))
  }
  const serve = (more: NodeJS.ProcessEnv) =>
    readSettings(['serve'], { REDIS_URL: 'redis://x', ...more }) as ServeSettings
  assert.equal(serve({}).isByMessage, false)
  assert.equal(serve({ AUTHENTICATE: 'message' }).isByMessage, true)
  assert.throws(() => serve({ AUTHENTICATE: 'url' }), /can only be "message"/)
  assert.deepEqual([serve({}).revocationTtl, serve({ REVOCATION_TTL: '600' }).revocationTtl], [86_400, 600])
  assert.throws(() => serve({ REVOCATION_TTL: '5' }), /REVOCATION_TTL/)
})

test('serve: a token in the URL, in a header and in a message, beside tickets; after a revocation none of them', async t => {
  const redis = await startRedis(t)
  const env = { REDIS_URL: redis.url, JWT_SECRET: SECRET, AUTHENTICATE: 'message', LOG_LEVEL: 'silent' }
  const app = await createServe(readSettings(['serve'], env) as ServeSettings)
  t.after(() => within(app.close(), 'the end of serve'))
  const token = await sign({ push: { allow: ['channel:a'] } })
  const byUrl = await openConnection(app, `/ws/a?token=${token}`)
  const byHeader = await openConnection(app, '/ws', { headers: { authorization: `Bearer ${token}` } })
  assert.deepEqual([byUrl.welcome.user, byHeader.welcome.user], ['42', '42'])
  const ticket = await app.push.ticket({ user: '7' })
  assert.equal((await openConnection(app, `/ws?ticket=${ticket}`)).welcome.user, '7')
  const { port } = app.server.address() as AddressInfo
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?token=${token}x`)).status, 401)
  const later = await sign({ exp: now() + 600 })
  byUrl.send('authenticate', { token: later }, 1)
  const { payload } = await byUrl.next('authenticated')
  assert.deepEqual((payload as { topics: string[] }).topics.slice(2), ['user:42'], 'channel:a is not in the new one')
  await app.push.revoke('user:42')
  for (const { closed } of [byUrl, byHeader]) assert.equal((await closed).code, 4401)
  for (const old of [token, later]) {
    assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?token=${old}`)).status, 401)
  }
  const fresh = await sign({ iat: now() + 2 })
  assert.equal((await openConnection(app, `/ws?token=${fresh}`)).welcome.user, '42')
})

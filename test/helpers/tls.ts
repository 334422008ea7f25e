import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Cleanup, run, temporaryFolder } from './processes.ts'
import { freePort, type RedisServer, startRedis } from './redis.ts'

/** An authority of our own, and what it certifies. */
export interface Authority {
  /** Path of a file: `ca.crt`, or `NAME.crt` and `NAME.key` of what was certified. */
  file(name: string): string
  read(name: string): Buffer
  /** A certificate for a host, or for a client. */
  certify(name: string, subjects: string): Promise<void>
  /** Arguments of a Redis that serves TLS too, with the certificate of this name. */
  argsOf(name: string, port: number, clients?: 'yes' | 'no'): string[]
}

export async function createAuthority(t: Cleanup): Promise<Authority> {
  const folder = temporaryFolder(t)
  const file = (name: string) => join(folder, name)
  const openssl = async (text: string) => {
    const { code, stderr } = await run('openssl', text.split(' '), { cwd: folder })
    assert.equal(code, 0, stderr)
  }
  await openssl('req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority')
  return {
    file,
    read: name => readFileSync(file(name)),
    async certify(name, subjects) {
      writeFileSync(file(`${name}.ext`), `subjectAltName=${subjects}\n`)
      await openssl(`req -newkey rsa:2048 -nodes -keyout ${name}.key -out ${name}.csr -subj /CN=${name}`)
      await openssl(
        `x509 -req -in ${name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ${name}.ext -out ${name}.crt`,
      )
    },
    argsOf(name, port, clients = 'no') {
      const files = ['--tls-cert-file', file(`${name}.crt`), '--tls-key-file', file(`${name}.key`)]
      return ['--tls-port', `${port}`, '--tls-ca-cert-file', file('ca.crt'), '--tls-auth-clients', clients, ...files]
    },
  }
}

/** A Redis that serves TLS at `tlsPort`, and the test itself without. */
export async function startTlsRedis(
  t: Cleanup,
  authority: Authority,
  { name = 'here', clients = 'no' as 'yes' | 'no', args = [] as string[] } = {},
): Promise<{ server: RedisServer; tlsPort: number }> {
  const tlsPort = await freePort()
  const server = await startRedis(t, { args: [...authority.argsOf(name, tlsPort, clients), ...args] })
  return { server, tlsPort }
}

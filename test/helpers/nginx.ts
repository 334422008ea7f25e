import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Cleanup, Program, path, run, temporaryFolder } from './processes.ts'
import { findProgram } from './programs.ts'
import { freePort } from './redis.ts'

export interface Nginx {
  readonly port: number
  /** The error log, which also is what `nginx` prints. */
  readonly program: Program
  /** Where the TLS variant sends http:// away. */
  readonly plainPort: number
  readonly origin: string
  readonly url: string
  /** What nginx writes of requests, if its configuration says so. */
  readonly accessLog: string
  /** The certificate that clients must trust; undefined without TLS. */
  readonly ca: string | undefined
}

export interface NginxOptions {
  /** Take away the marks of the TLS variant. */
  tls?: boolean
  /** Changes the text of the example further. */
  edit?: (conf: string) => string
}

/** Runs nginx with `example/nginx/nginx.conf`: other ports, files of its own, as whoever runs the test. */
export async function startNginx(t: Cleanup, nodes: readonly number[], options: NginxOptions = {}): Promise<Nginx> {
  const folder = temporaryFolder(t)
  const [port, plainPort] = [await freePort(), await freePort()]
  const example = readFileSync(path('example/nginx/nginx.conf'), 'utf8')
  const variant = options.tls ? await withTls(example, folder, port, plainPort) : withoutTls(example, port)
  const ported = nodes.reduce(
    (conf, node, index) => replace(conf, `127.0.0.1:300${index + 1} `, `127.0.0.1:${node} `),
    variant,
  )
  const { edit = conf => conf } = options
  const accessLog = join(folder, 'access.log')
  writeFileSync(join(folder, 'push.conf'), edit(ported).replace('/var/log/nginx/access.log', accessLog))
  writeFileSync(join(folder, 'nginx.conf'), mainFile(folder))
  const nginx = findProgram('nginx')!
  const args = ['-c', join(folder, 'nginx.conf'), '-p', folder, '-e', 'stderr']
  const program = new Program(t, nginx, args, { stopWith: 'SIGTERM' })
  await program.line(/start worker process \d+/)
  return {
    port,
    plainPort,
    program,
    accessLog,
    origin: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    url: `${options.tls ? 'wss' : 'ws'}://127.0.0.1:${port}/ws`,
    ca: options.tls ? readFileSync(join(folder, 'fullchain.pem'), 'utf8') : undefined,
  }
}

/** Stays in the foreground; everything it writes is in `folder`. */
function mainFile(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `daemon off;
${process.getuid?.() === 0 ? 'user root;' : ''}
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr notice;
events { worker_connections 2048; }
http {
  access_log off;
  ${temporary.map(name => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  include ${folder}/push.conf;
}
`
}

function withoutTls(conf: string, port: number): string {
  return replace(conf, 'listen 80;', `listen 127.0.0.1:${port};`, 'last')
}

async function withTls(conf: string, folder: string, port: number, plainPort: number): Promise<string> {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', join(folder, 'privkey.pem'), '-out', join(folder, 'fullchain.pem')]
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
  const { code, stderr } = await run('openssl', [...kind, ...subject, ...files])
  if (code !== 0) throw new Error(`openssl: ${stderr}`)
  // As the file says: without the marks, and without the second "listen 80;".
  const bare = replace(conf.replaceAll('#tls ', ''), '    listen 80;\n', '', 'last')
  const redirecting = replace(bare, '    listen 80;\n', `    listen 127.0.0.1:${plainPort};\n`)
  return replace(redirecting, 'listen 443 ', `listen 127.0.0.1:${port} `)
    .replaceAll('/etc/ssl/push.example.com', folder)
    .replaceAll('push.example.com', 'localhost')
}

function replace(conf: string, from: string, to: string, which: 'first' | 'last' = 'first'): string {
  const at = which === 'first' ? conf.indexOf(from) : conf.lastIndexOf(from)
  if (at < 0) throw new Error(`example/nginx/nginx.conf does not hold ${JSON.stringify(from)}`)
  return conf.slice(0, at) + to + conf.slice(at + from.length)
}

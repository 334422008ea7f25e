import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Cleanup, Program, path, temporaryFolder } from './processes.ts'
import { freePort, type RedisServer } from './redis.ts'

/** The session of a user in a browser, or in what stands for one. */
export interface Session {
  cookie: string
  csrf: string
}

export interface Laravel {
  readonly origin: string
  readonly program: Program
  login(user: string): Promise<Session>
  /** What a page of this user does with its buttons. */
  post(route: string, session: Session, headers?: Record<string, string>): Promise<Response>
}

/** The application in test/interop/laravel, with the Laravel of Debian. `page`: the script of GET /page. */
export async function startLaravel(
  t: Cleanup,
  { redis, page = '', env = {} }: { redis: RedisServer; page?: string; env?: Record<string, string> },
): Promise<Laravel> {
  const folder = join(temporaryFolder(t), 'shop')
  cpSync(path('test/interop/laravel'), folder, { recursive: true })
  for (const name of ['bootstrap/cache', 'storage/framework/sessions', 'storage/framework/views', 'vendor/composer']) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  // Where Laravel looks for providers of packages.
  const packages = [JSON.parse(readFileSync(path('php/composer.json'), 'utf8'))]
  writeFileSync(join(folder, 'vendor/composer/installed.json'), JSON.stringify({ packages }))
  writeFileSync(join(folder, 'page.js'), page)
  const port = await freePort()
  const program = new Program(t, 'php', ['-S', `127.0.0.1:${port}`, '-t', folder, join(folder, 'public/index.php')], {
    env: {
      PUSH_PACKAGE: path('php'),
      BROADCAST_DRIVER: 'push',
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: `${redis.port}`,
      ...env,
    },
  })
  await program.line(/started/)
  const origin = `http://127.0.0.1:${port}`
  return {
    origin,
    program,
    async login(user) {
      const response = await fetch(`${origin}/login/${user}`)
      const cookies = response.headers.getSetCookie().map(it => it.split(';')[0]!)
      const { csrf } = (await response.json()) as { csrf: string }
      return { cookie: cookies.join('; '), csrf }
    },
    post: (route, { cookie, csrf }, headers = {}) =>
      fetch(origin + route, {
        method: 'POST',
        headers: { cookie, 'x-csrf-token': csrf, accept: 'application/json', ...headers },
      }),
  }
}

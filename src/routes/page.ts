import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { Options } from '../options/options.ts'
import { leaveRequestHooks } from './host-hooks.ts'

const FILES = {
  '/page': { name: 'page.html', type: 'text/html; charset=utf-8' },
  '/page/page.js': { name: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/page/page.css': { name: 'page.css', type: 'text/css; charset=utf-8' },
  '/page/icon.svg': { name: 'icon.svg', type: 'image/svg+xml' },
} as const

/** What stands below `api.path` if there is a page. */
export const PAGE_PATHS: readonly string[] = Object.keys(FILES)

/**
 * The page loads its own script and style and asks its own server, and nothing else: what an attacker gets into it cannot
 * run, and cannot send anything away. No other site may show it in a frame, where clicks could be stolen.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

const HEADERS = {
  'content-security-policy': POLICY,
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-robots-tag': 'noindex',
  'cache-control': 'no-cache',
} as const

/**
 * The page to look at the nodes with: files without data, for everybody. What they show they ask the push API for, with
 * the key that somebody types in. Off the hooks of the host, as a browser that opens an address sends nothing along.
 */
export async function pageRoutes(app: FastifyInstance, { api }: { api: NonNullable<Options['api']> }): Promise<void> {
  leaveRequestHooks(app, undefined)
  for (const [url, { name, type }] of Object.entries(FILES)) {
    const source = name === 'page.html' ? suited(load(name), api) : load(name)
    const etag = `"${createHash('sha256').update(source).digest('base64url').slice(0, 22)}"`
    app.get(url, { schema: { hide: true } as object }, async (request, reply) => {
      reply.headers(HEADERS).header('etag', etag)
      if (request.headers['if-none-match'] === etag) return reply.code(304).send()
      return reply
        .type(type)
        .serializer((text: string) => text)
        .send(source)
    })
  }
}

/** The path of the files is the same from `src` and from `dist`. */
function load(name: string): string {
  return readFileSync(new URL(`../../dist/page/${name}`, import.meta.url), 'utf8')
}

/** Whether a key is to be asked for, and where `POST <api.path>` is: the page cannot know by itself. */
function suited(html: string, { onRequest, path }: NonNullable<Options['api']>): string {
  const guard = onRequest ? 'application' : 'keys'
  const publishing = path.endsWith('/') ? '.' : ''
  return html.replace('data-guard="keys" data-publishing=""', `data-guard="${guard}" data-publishing="${publishing}"`)
}

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'

/**
 * The links of a built site that lead nowhere, as sentences: to a file that is not there, or to a heading that its page does not
 * have. VitePress itself looks only at links between pages, without their headings.
 */
export function deadLinks(folder: string, base: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(name => name.replaceAll('\\', '/'))
  const pages = new Map(
    files.filter(name => name.endsWith('.html')).map(name => [name, readFileSync(join(folder, name), 'utf8')]),
  )
  const ids = new Map([...pages].map(([name, html]) => [name, attributesOf(html, 'id')]))
  const dead = []
  for (const [name, html] of pages) {
    for (const href of attributesOf(html, 'href')) {
      if (/^(https?:|mailto:|data:)/.test(href)) continue
      const { file, anchor } = resolveLink(href, name, base)
      if (!files.includes(file)) dead.push(`${name}: ${href} is not there`)
      else if (anchor && !ids.get(file)?.has(anchor)) dead.push(`${name}: ${file} has no heading for #${anchor}`)
    }
  }
  return dead
}

function attributesOf(html: string, attribute: string): Set<string> {
  const found = html.matchAll(new RegExp(`\\s${attribute}="([^"]*)"`, 'g'))
  return new Set([...found].map(([, value]) => value!.replaceAll('&amp;', '&')))
}

function resolveLink(href: string, from: string, base: string): { file: string; anchor: string } {
  const [path = '', anchor = ''] = href.split('#')
  const inside = path.startsWith(base) ? path.slice(base.length) : posix.join(dirname(from), path)
  const file = path === '' ? from : inside === '' || inside.endsWith('/') ? `${inside}index.html` : inside
  return { file: decodeURI(file), anchor: decodeURIComponent(anchor) }
}

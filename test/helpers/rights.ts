import { readFileSync } from 'node:fs'
import { path } from './processes.ts'

/** The rights of a node as docs/redis.md prints them, those for a Cluster included if `isCluster` says so. */
export function rightsOfNode({ isCluster = false } = {}): string[] {
  const text = readFileSync(path('docs/redis.md'), 'utf8')
  const commands = [...text.matchAll(/^redis-cli ACL SETUSER node ((?:.*\\\n)*.*)$/gm)].map(([, rights]) =>
    rights!.replaceAll(/\\\n/g, ' ').replaceAll("'", '').trim().split(/\s+/),
  )
  const [whole, ...more] = commands
  if (!whole || more.length === 0) throw new Error('docs/redis.md has no rights of a node, or none for a Cluster')
  return isCluster ? [...whole, ...more.flat()] : whole
}

/** The rights at a Sentinel that docs/redis.md prints. */
export function rightsAtSentinel(): string[] {
  const text = readFileSync(path('docs/redis.md'), 'utf8')
  const [, rights] = /`user bridge on >secret (-@all [^`]+)`/.exec(text) ?? []
  if (!rights) throw new Error('docs/redis.md has no rights at a Sentinel')
  return rights.split(' ')
}

/** The further rights of a node that reads an ingress stream, as docs/ingress.md prints them. */
export function rightsOfIngress(): string[] {
  const text = readFileSync(path('docs/ingress.md'), 'utf8')
  const [, rights] = /^redis-cli ACL SETUSER node (\+.*)$/m.exec(text) ?? []
  if (!rights) throw new Error('docs/ingress.md has no rights of a node')
  return rights.replaceAll("'", '').split(' ')
}

import { examine } from '../broker/redis/examination.ts'
import { countIn, type Desk, EXIT, type Given, on, type Task, text } from './command.ts'
import { machineFindings } from './doctor-machine.ts'
import { versionFindings } from './doctor-nodes.ts'
import { redisFindings } from './doctor-redis.ts'
import { serverFindings } from './doctor-server.ts'
import { type Finding, hint, mend, showFindings } from './findings.ts'
import { urlOf } from './socket.ts'
import { jsonOf } from './table.ts'

async function diagnose(given: Given, desk: Desk): Promise<number> {
  const { flags } = given
  const connections =
    flags.connections === undefined ? undefined : countIn(flags, 'connections', { fallback: 1, most: 10_000_000 })
  const url = flags.url || desk.env.PUSH_URL ? urlOf(flags, desk.env) : undefined
  const findings = [
    ...machineFindings(connections),
    ...(await ofRedis(desk)),
    ...(url ? await ofServer(url, given, desk) : []),
  ]
  desk.terminal.out(`${desk.isJson ? jsonOf(findings) : showFindings(findings)}\n`)
  return findings.some(({ level }) => level === 'mend') ? EXIT.failed : EXIT.done
}

async function ofRedis(desk: Desk): Promise<Finding[]> {
  const way = desk.way()
  if (!way) return [hint('redis', 'not named, so not looked at', 'set REDIS_URL (--redis)')]
  const servers = await examine(way.redis, way.redisPrefix)
  const areThere = servers.some(({ nodes = 0 }) => nodes > 0)
  return [...servers.flatMap(redisFindings), ...(areThere ? versionFindings(await versionsOf(desk)) : [])]
}

/** Of each node that answers. That a right is missing for the question is told already. */
async function versionsOf(desk: Desk): Promise<{ node: string; version: string }[]> {
  return desk
    .open()
    .nodes()
    .then(
      ({ nodes }) => nodes,
      () => [],
    )
}

async function ofServer(url: URL, { flags }: Given, desk: Desk): Promise<Finding[]> {
  const { origin, token = desk.env.PUSH_TOKEN } = flags as { origin?: string; token?: string }
  const own = () => (token ? undefined : ownTicket(desk))
  const given = flags.ticket as string | undefined
  const ticket = given ?? (await own())
  const secondTicket = given === undefined ? await own() : undefined
  const failure = [ticket, secondTicket].find(it => it instanceof Error)
  if (ticket instanceof Error || secondTicket instanceof Error)
    return [mend('identity', `no ticket could be made: ${failure?.message}`, 'see rights above')]
  return serverFindings({
    url,
    origin: origin ?? `${url.protocol.replace(/^ws/, 'http')}//${url.host}`,
    ticket,
    secondTicket,
    token,
    isPatient: flags.quick !== true,
    ended: desk.ended,
  })
}

/** It lets in and allows nothing. */
async function ownTicket(desk: Desk): Promise<string | Error | undefined> {
  if (!desk.way()) return undefined
  return desk
    .open()
    .ticket({})
    .catch((error: Error) => error)
}

export const doctor: Task = {
  usage: '',
  about:
    'what is wrong with Redis, its rights and this machine (--connections N), and with --url ws://… a node and the proxy ' +
    'in front, as a page of --origin sees it; --quick does not wait for a heartbeat',
  flags: { url: text, origin: text, ticket: text, token: text, connections: text, quick: on },
  takes: [0, 0],
  needsRedis: false,
  perform: diagnose,
}

import type { Explanation, RecentPublication, TopicRefusal, TopicReport } from './report-schemas.ts'

/** Milliseconds: a node that is later than this is named. */
const LATE = 1000

type Known = Omit<Explanation, 'findings'>

/** What a person should conclude, the most important first: plain sentences. */
export function findingsOn(known: Known): string[] {
  const { nodes } = known
  const holders = nodes.filter(({ connections }) => connections > 0)
  return [
    ...askedIn(known),
    ...(holders.length === 0 ? [nobodyIn(known)] : []),
    ...holders.flatMap(node => troubleOf(node, known.now)),
    ...nodes.flatMap(limitsOf),
    ...refusedIn(known),
    ...rejectedIn(known),
    ...(holders.length > 0 ? arrivedIn(known) : []),
  ].map(sentence => sentence[0]!.toUpperCase() + sentence.slice(1))
}

/** Who could not be asked: what they hold may be the answer. */
function askedIn({ nodes, expected, complete, problem }: Known): string[] {
  const answered = new Set(nodes.map(({ node }) => node)).size
  const findings: string[] = []
  if (problem !== undefined) findings.push(`Other nodes could not be asked: ${problem}.`)
  else if (expected === 0 && answered === 0) {
    findings.push('No node runs with this Redis and this prefix: start one, or look at the settings of both.')
  } else if (!complete && expected !== undefined) {
    const missing = Math.max(1, expected - answered)
    const are = expected === 1 ? 'The node' : `${missing} of ${expected} nodes`
    findings.push(`${are} did not answer in time: frozen, overloaded, or just gone. What is there is not known.`)
  }
  return findings
}

function nobodyIn({ topic, complete }: Known): string {
  const who = complete ? 'No node' : 'No node that answered'
  if (topic.startsWith('user:')) return `${who} has a connection of this user: a client has to connect first.`
  if (topic.startsWith('connection:')) return `${who} has this connection: it is closed.`
  if (topic === 'all') return `${who} has a connection.`
  return `${who} has the topic: nobody is subscribed.`
}

function troubleOf(node: TopicReport, now: number): string[] {
  const name = nameOf(node)
  const findings: string[] = []
  if (!node.connected) {
    const since = node.cutOffSince === undefined ? '' : ` since ${timeOf(node.cutOffSince)}`
    const why = node.problem === undefined ? '' : `: ${node.problem}`
    findings.push(
      `${name} has the topic but is cut off from Redis${since}${why}. Its clients get a gap when it is back.`,
    )
  }
  if (node.refused)
    findings.push(`Redis refuses the topic to ${name}: its connections get nothing until that is granted.`)
  if (node.filling) findings.push(`${name} reads what it missed on the topic: messages come late there.`)
  if (node.lag > LATE)
    findings.push(`${name} is ${seconds(node.lag)} behind what is published: messages come late there.`)
  if (node.draining) findings.push(`${name} is draining: its connections are about to come back elsewhere.`)
  if (node.connected && node.problem !== undefined) findings.push(`${name}: ${node.problem}.`)
  const stalled = node.members.filter(member => member.stalled)
  if (stalled.length > 0) {
    const most = Math.max(...stalled.map(({ queuedBytes }) => queuedBytes))
    const seen = Math.min(...stalled.map(({ lastSeen }) => lastSeen))
    const since = seconds(Math.max(0, now - seen))
    findings.push(
      `${stalled.length} of ${node.connections} connections on ${name} accept no more data: up to ${most} bytes wait, and one was last heard of ${since} ago.`,
    )
  }
  return findings
}

function limitsOf(node: TopicReport): string[] {
  return Object.entries(node.dropped).map(([reason, count]) => {
    const did = LIMITED[reason] ?? ((times: number) => `applied a limit ${times} times`)
    return `Lately ${nameOf(node)} ${did(count)} (${reason}).`
  })
}

const LIMITED: Readonly<Record<string, (count: number) => string>> = {
  slow_consumer: count => `gave up ${count} times on connections of the topic that read too slowly`,
  overload: count => `dropped ${count} publications of the topic, since more came than it could process`,
  rate: count => `closed ${count} connections of the topic that sent too many messages`,
  user_connections: count => `refused ${count} connections of the user, which had too many`,
}

/** Refused clients that are named: whoever asks wants to know why, not who all of them are. */
const MOST_REFUSED = 3

/** Who asked for the topic and did not get it: that may be why nobody has it. */
function refusedIn({ nodes }: Known): string[] {
  const all = nodes.flatMap(node => (node.refusals ?? []).map(refusal => ({ name: nameOf(node), refusal })))
  const newest = all.toSorted((a, b) => b.refusal.at - a.refusal.at)
  const named = newest.slice(0, MOST_REFUSED).map(({ name, refusal }) => `${name} ${refusalIn(refusal)}`)
  const more = newest.length - named.length
  return more > 0 ? [...named, `${more} more clients were refused the topic lately.`] : named
}

function refusalIn({ at, user, connection, code, message, times }: TopicRefusal): string {
  const anonymous = connection === undefined ? 'an anonymous client' : `the anonymous connection ${connection}`
  const who = user === null ? anonymous : `user ${user}`
  const when = times > 1 ? `${times} times lately, the last time at ${timeOf(at)}` : `at ${timeOf(at)}`
  return `refused the topic to ${who} ${when}: ${message} (${code}).`
}

function rejectedIn({ rejected }: Known): string[] {
  const [last] = rejected
  if (!last) return []
  return [`An envelope for the topic was rejected at ${timeOf(last.at)} (${last.reason}): ${last.message}.`]
}

/** What became of the last publication: the newest that some node has seen. */
function arrivedIn({ nodes, history }: Known): string[] {
  const seen = nodes.flatMap(({ publications }) => publications.slice(0, 1))
  const [last] = seen.toSorted((a, b) => b.at - a.at)
  if (!last) {
    const recorded = history?.head ? ` although ${history.head.seq} were recorded before` : ''
    return [
      `No node has received a publication on the topic lately${recorded}: look at the name of the topic, and at the Redis and the prefix of the publisher.`,
    ]
  }
  const same = nodes.flatMap(({ publications }) => publications.filter(it => isSame(it, last)).slice(0, 1))
  return [sentenceOn(last, same)]
}

/** On another node: recorded ones have an id; others came at nearly the same time, if the clocks agree. */
function isSame(a: RecentPublication, b: RecentPublication): boolean {
  return a.id === undefined ? b.id === undefined && a.type === b.type && Math.abs(a.at - b.at) < LATE : a.id === b.id
}

function sentenceOn(last: RecentPublication, same: readonly RecentPublication[]): string {
  const what = last.type === undefined ? 'The last publication' : `The last publication (${last.type})`
  const came = `${what} came at ${timeOf(last.at)}`
  const rejected = same.find(it => it.rejected !== undefined)?.rejected
  if (rejected !== undefined) return `${came} and could not be used (${rejected}): nobody got it.`
  const delivered = same.reduce((sum, it) => sum + it.delivered, 0)
  const skipped = new Map<string, number>()
  for (const it of same) {
    for (const [reason, count] of Object.entries(it.skipped)) skipped.set(reason, (skipped.get(reason) ?? 0) + count)
  }
  const reasons = [...skipped].map(([reason, count]) => `${count} ${SKIPPED[reason] ?? reason}`)
  const but = reasons.length > 0 ? `; skipped: ${reasons.join(', ')}` : ''
  return `${came} and was queued for ${delivered} connections${but}.`
}

const SKIPPED: Readonly<Record<string, string>> = {
  except: 'that the publisher excepted',
  closing: 'that were being closed',
  slow: 'that read too slowly',
  overload: 'for which too much waited until they were up to date',
}

function nameOf({ node, registration }: TopicReport): string {
  return registration === 'push' ? `node ${node}` : `node ${node} (${registration})`
}

function timeOf(time: number): string {
  const date = new Date(time)
  return Number.isNaN(date.getTime()) ? 'an unknown time' : date.toISOString()
}

function seconds(milliseconds: number): string {
  return `${Math.round(milliseconds / 100) / 10} s`
}

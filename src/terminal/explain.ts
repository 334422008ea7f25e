import type { Explanation } from '../node/monitoring/report-schemas.ts'
import type { Call } from './command.ts'
import { printable, table, timeOf } from './table.ts'

/** As many lines of each kind as a person reads. */
const MOST = 20

const countsOf = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ')

function section(title: string, rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  if (rows.length === 0) return []
  const more = rows.length > MOST ? `\n… and ${rows.length - MOST} more: --json has them` : ''
  return [`${title}\n${table(rows.slice(0, MOST))}${more}`]
}

const secondsAgo = (now: number, at: number) => `${Math.max(0, Math.round((now - at) / 1000))} s ago`

function show({ topic, findings, nodes, expected, complete, history, rejected }: Explanation): string {
  const summary = nodes.map(({ node, registration, connected, draining, connections, refused, filling, dropped }) => ({
    node,
    registration,
    connections,
    state: [connected ? 'connected' : 'cut off', draining && 'draining', refused && 'refused', filling && 'filling']
      .filter(Boolean)
      .join(', '),
    dropped: countsOf(dropped),
  }))
  const members = nodes.flatMap(({ node, now, members }) =>
    members.map(({ id, user, since, connected, queuedBytes, stalled, lastSeen }) => ({
      connection: id,
      user,
      node,
      since: timeOf(since),
      connected: timeOf(connected),
      queued: queuedBytes,
      stalled: stalled ? 'yes' : '',
      seen: secondsAgo(now, lastSeen),
    })),
  )
  const publications = nodes
    .flatMap(({ node, publications }) => publications.map(publication => ({ ...publication, node })))
    .toSorted((a, b) => b.at - a.at)
    .map(({ at, type, id, node, delivered, skipped, rejected: reason }) => ({
      at: timeOf(at),
      type,
      node,
      delivered,
      skipped: countsOf(skipped),
      rejected: reason,
      id,
    }))
  const refusals = nodes
    .flatMap(({ node, refusals = [] }) => refusals.map(refusal => ({ ...refusal, node })))
    .toSorted((a, b) => b.at - a.at)
    .map(({ at, user, connection, node, times, code, message }) => ({
      at: timeOf(at),
      user,
      connection,
      node,
      times,
      code,
      message,
    }))
  const rejections = rejected.map(({ at, node, reason, message }) => ({ at: timeOf(at), node, reason, message }))
  const head = history?.head && printable(`at ${history.head.seq} (${history.head.id}), `)
  return [
    [printable(topic), ...findings.map(finding => `- ${printable(finding)}`)].join('\n'),
    ...section('nodes', summary),
    ...section('connections', members),
    ...section('last publications', publications),
    ...section('refused clients', refusals),
    ...section('rejected', rejections),
    history ? `history: ${head ?? ''}${history.size} kept` : 'history: the topic is not recorded',
    ...(complete ? [] : [`${nodes.length} of ${expected ?? 'an unknown number of'} nodes answered`]),
  ].join('\n\n')
}

export const explain: Call = {
  usage: 'TOPIC',
  about: 'why something did or did not arrive: who has the topic, its last publications and what became of each',
  flags: {},
  takes: [1, 1],
  run: (publisher, { args }) => publisher.explain(args[0]!),
  show,
}

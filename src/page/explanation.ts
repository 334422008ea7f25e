import { type Child, el } from './dom.ts'
import { bytesText, clockText, countText, durationText, numberText, shortText } from './format.ts'
import { type Fields, fieldsOf, listOf, numberOf, readCounts, textOf } from './reports.ts'
import { type Column, type Row, tableOf } from './table.ts'

const MOST = 100

/** An answer of `GET <api.path>/explain` as it is shown: what to conclude first, then what it follows from. */
export function showExplanation(answer: unknown): Child[] {
  const it = fieldsOf(answer)
  const nodes = listOf(it.nodes, MOST).map(fieldsOf)
  return [
    el('h3', {}, textOf(it.topic), ' ', el('small', {}, `at ${clockText(numberOf(it.now))}${missingOf(it, nodes)}`)),
    findings(it),
    headOf(it),
    ...section('Nodes', nodesTable(nodes)),
    ...section('Connections', connectionsTable(nodes, numberOf(it.now))),
    ...section('Last publications', publicationsTable(nodes)),
    ...section('Dropped lately', droppedTable(nodes)),
    ...section('Refused lately', refusedTable(nodes)),
    ...section('Rejected lately', rejectedTable(it)),
  ]
}

/** The same answer for `user:ID`, when only the connections are asked for. */
export function showConnections(answer: unknown): Child[] {
  const it = fieldsOf(answer)
  const nodes = listOf(it.nodes, MOST).map(fieldsOf)
  const count = nodes.reduce((sum, node) => sum + numberOf(node.connections), 0)
  return [
    el('h3', {}, textOf(it.topic), ' ', el('small', {}, `${countText(count, 'connection')}${missingOf(it, nodes)}`)),
    ...(connectionsTable(nodes, numberOf(it.now)) ?? [el('p', { class: 'none' }, 'Not connected to any node.')]),
  ]
}

function missingOf({ complete, expected }: Fields, nodes: readonly Fields[]): string {
  if (complete === true) return ''
  const answered = new Set(nodes.map(({ node }) => textOf(node))).size
  const of = typeof expected === 'number' ? ` of ${expected}` : ''
  return `, ${answered}${of} nodes answered`
}

function findings({ findings }: Fields): Child {
  const sentences = listOf(findings, MOST).map(textOf).filter(Boolean)
  if (sentences.length === 0) return el('p', { class: 'none' }, 'Nothing stands out.')
  return el('ol', { class: 'findings' }, ...sentences.map(sentence => el('li', {}, sentence)))
}

function headOf({ history }: Fields): Child {
  if (history === null || history === undefined) return el('p', { class: 'quiet' }, 'The topic is not recorded.')
  const { head, size } = fieldsOf(history)
  const { id, seq } = fieldsOf(head)
  const kept = `History: ${countText(numberOf(size), 'publication')} kept`
  const at = id === undefined ? '' : `, the last is number ${numberText(numberOf(seq))}, id ${textOf(id)}`
  return el('p', { class: 'quiet' }, `${kept}${at}.`)
}

const section = (title: string, table: Child[] | undefined): Child[] => (table ? [el('h4', {}, title), ...table] : [])

function tableIf(columns: readonly Column[], rows: readonly Row[], label: string): Child[] | undefined {
  return rows.length > 0 ? [tableOf(columns, rows.slice(0, 10 * MOST), label)] : undefined
}

const nameOf = (node: Fields) => {
  const registration = textOf(node.registration)
  return registration === '' || registration === 'push' ? textOf(node.node) : `${textOf(node.node)} ${registration}`
}

const nodeCell = (name: string) => ({ text: shortText(name, 20), title: name })

/** The nodes on which it is, and those on which something is wrong. */
function nodesTable(nodes: readonly Fields[]): Child[] | undefined {
  const rows = nodes.map((node, n) => {
    const [text, mark] = stateOf(node)
    return { key: `${n}`, cells: [nodeCell(nameOf(node)), numberText(numberOf(node.connections)), { text, mark }] }
  })
  const columns = [{ title: 'Node' }, { title: 'Connections', isNumber: true }, { title: 'State' }]
  return tableIf(columns, rows, 'Nodes')
}

function stateOf({ refused, filling, connected, problem, draining }: Fields): [text: string, mark: 'bad' | 'quiet'] {
  if (refused === true) return ['Redis refuses the topic to it', 'bad']
  if (connected === false) return [`cut off: ${textOf(problem) || 'not connected to its broker'}`, 'bad']
  if (filling === true) return ['reads what it missed', 'bad']
  return draining === true ? ['draining', 'bad'] : ['well', 'quiet']
}

function connectionsTable(nodes: readonly Fields[], now: number): Child[] | undefined {
  const columns = [
    { title: 'Connection' },
    { title: 'User' },
    { title: 'Node' },
    { title: 'Has it for', isNumber: true },
    { title: 'Connected for', isNumber: true },
    { title: 'Last sign of life', isNumber: true },
    { title: 'Queued', isNumber: true },
  ]
  const notes: Child[] = []
  const rows = nodes.flatMap((node, n) => {
    const members = listOf(node.members, MOST).map(fieldsOf)
    const more = numberOf(node.connections) - members.length
    if (more > 0) notes.push(el('p', { class: 'quiet' }, `${countText(more, 'more connection')} on ${nameOf(node)}.`))
    return members.map((member, m) => memberRow(member, nameOf(node), { key: `${n} ${m}`, now }))
  })
  const table = tableIf(columns, rows, 'Connections')
  return table || notes.length > 0 ? [...(table ?? []), ...notes] : undefined
}

function memberRow(member: Fields, node: string, { key, now }: { key: string; now: number }): Row {
  const id = textOf(member.id)
  const duration = (at: unknown) => (typeof at === 'number' ? durationText(now - at) : '–')
  const ago = (at: unknown) => (typeof at === 'number' ? `${durationText(now - at)} ago` : '–')
  const isStalled = member.stalled === true
  const queued = bytesText(numberOf(member.queuedBytes))
  return {
    key,
    cells: [
      { text: shortText(id, 24), title: id },
      textOf(member.user) || '–',
      nodeCell(node),
      duration(member.since),
      duration(member.connected),
      ago(member.lastSeen),
      isStalled ? { text: `${queued}, stalled`, mark: 'bad' } : queued,
    ],
  }
}

const countsText = (counts: unknown) =>
  Object.entries(readCounts(counts))
    .map(([reason, count]) => `${numberText(count)} ${reason}`)
    .join(', ')

function publicationsTable(nodes: readonly Fields[]): Child[] | undefined {
  const columns = [
    { title: 'At' },
    { title: 'Type' },
    { title: 'Id' },
    { title: 'Node' },
    { title: 'Delivered', isNumber: true },
    { title: 'Skipped' },
  ]
  const all = nodes.flatMap(node => listOf(node.publications, MOST).map(it => ({ node, it: fieldsOf(it) })))
  all.sort((a, b) => numberOf(b.it.at) - numberOf(a.it.at))
  const rows = all.map(({ node, it }, n) => ({
    key: `${n}`,
    cells: [
      clockText(numberOf(it.at)),
      textOf(it.type) || '–',
      textOf(it.id) || '–',
      nodeCell(nameOf(node)),
      numberText(numberOf(it.delivered)),
      it.rejected ? { text: `rejected: ${textOf(it.rejected)}`, mark: 'bad' as const } : countsText(it.skipped) || '–',
    ],
  }))
  return tableIf(columns, rows, 'Last publications')
}

function droppedTable(nodes: readonly Fields[]): Child[] | undefined {
  const rows = nodes.flatMap((node, n) =>
    Object.entries(readCounts(node.dropped)).map(([reason, count], m) => ({
      key: `${n} ${m}`,
      cells: [reason, nodeCell(nameOf(node)), numberText(count)],
    })),
  )
  return tableIf(
    [{ title: 'Reason' }, { title: 'Node' }, { title: 'How often', isNumber: true }],
    rows,
    'Dropped lately',
  )
}

function refusedTable(nodes: readonly Fields[]): Child[] | undefined {
  const all = nodes.flatMap(node => listOf(node.refusals, MOST).map(it => ({ node, it: fieldsOf(it) })))
  all.sort((a, b) => numberOf(b.it.at) - numberOf(a.it.at))
  const rows = all.map(({ node, it }, n) => ({
    key: `${n}`,
    cells: [
      clockText(numberOf(it.at)),
      textOf(it.user) || '–',
      nodeCell(nameOf(node)),
      numberText(numberOf(it.times)),
      `${textOf(it.message)} (${textOf(it.code)})`,
    ],
  }))
  const columns = [
    { title: 'Last at' },
    { title: 'User' },
    { title: 'Node' },
    { title: 'How often', isNumber: true },
    { title: 'Why' },
  ]
  return tableIf(columns, rows, 'Refused lately')
}

function rejectedTable({ rejected }: Fields): Child[] | undefined {
  const rows = listOf(rejected, MOST)
    .map(fieldsOf)
    .map((it, n) => ({
      key: `${n}`,
      cells: [clockText(numberOf(it.at)), textOf(it.reason), textOf(it.message), nodeCell(textOf(it.node))],
    }))
  return tableIf(
    [{ title: 'At' }, { title: 'Reason' }, { title: 'What was wrong' }, { title: 'Node' }],
    rows,
    'Rejected lately',
  )
}

import { type Child, el } from './dom.ts'
import { clockText, countText, numberText, shortText } from './format.ts'
import { fieldsOf, listOf, numberOf, readCounts, textOf } from './reports.ts'
import { tableOf } from './table.ts'

const MOST = 200

export interface PublishForm {
  to: string
  type: string
  /** JSON text. */
  payload: string
  receipt: boolean
  trace: boolean
}

/** The body of `POST <api.path>`. Throws a sentence about a payload that is no JSON. */
export function publishBody({ to, type, payload, receipt, trace }: PublishForm): object {
  const body = { to: to.trim(), type: type.trim(), ...(receipt && { receipt }), ...(trace && { trace }) }
  if (payload.trim() === '') return body
  try {
    return { ...body, payload: JSON.parse(payload) as unknown }
  } catch (error) {
    throw new Error(`the payload is no JSON: ${(error as Error).message}`)
  }
}

/** One sentence about what became of a publication. */
export function outcomeOf(answer: unknown): string {
  const { delivered, skipped, nodes, complete, duplicate, reasons, seq } = fieldsOf(answer)
  const on = `on ${countText(numberOf(nodes), 'node')}`
  const number = typeof seq === 'number' ? `, recorded as number ${numberText(seq)}` : ''
  if (duplicate === true) return 'It had been published before: nothing was done.'
  if (typeof delivered !== 'number') return `Published, ${countText(numberOf(nodes), 'node')} listening${number}.`
  const why = Object.entries(readCounts(reasons)).map(([reason, count]) => `${numberText(count)} ${reason}`)
  const left =
    numberOf(skipped) > 0 ? `, ${numberText(numberOf(skipped))} skipped (${why.join(', ') || 'no reason given'})` : ''
  const late = complete === false ? ' Not every node answered in time.' : ''
  return `Delivered to ${countText(delivered, 'connection')} ${on}${left}${number}.${late}`
}

export function showOutcome(answer: unknown): Child[] {
  const { trace, rejected } = fieldsOf(answer)
  const refusals = listOf(rejected, MOST).map(fieldsOf)
  const lines = refusals.map(({ node, message }) =>
    el('p', { class: 'problem' }, `Rejected by ${textOf(node)}: ${textOf(message)}`),
  )
  return [el('p', {}, outcomeOf(answer)), ...lines, ...showTrace(listOf(trace, MOST).map(fieldsOf))]
}

/** What each node did when. Times are those of the nodes' own clocks. */
function showTrace(steps: readonly Readonly<Record<string, unknown>>[]): Child[] {
  if (steps.length === 0) return []
  const begin = numberOf(steps[0]!.at)
  const rows = steps.map(({ at, node, what, ...more }, n) => ({
    key: `${n}`,
    cells: [
      { text: `+${numberText(numberOf(at) - begin)} ms`, title: clockText(numberOf(at)) },
      { text: shortText(textOf(node), 12) || '–', title: textOf(node) },
      textOf(what),
      detailOf(more),
    ],
  }))
  const columns = [{ title: 'After' }, { title: 'Node' }, { title: 'What' }, { title: 'More' }]
  return [tableOf(columns, rows, 'The way of the publication')]
}

function detailOf(more: Readonly<Record<string, unknown>>): string {
  const words = Object.entries(more).flatMap(([key, value]) => {
    if (typeof value === 'string' || typeof value === 'number') return [`${key} ${String(value).slice(0, 200)}`]
    const counts = Object.entries(readCounts(value))
    return counts.length > 0 ? [`${key} ${counts.map(([name, count]) => `${count} ${name}`).join(', ')}`] : []
  })
  return words.slice(0, 10).join(', ') || '–'
}

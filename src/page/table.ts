import { el, setText } from './dom.ts'

export interface Column {
  title: string
  /** Numbers stand at the right. */
  isNumber?: boolean
  /** What the title means. */
  hint?: string
}

/** What stands in a cell: text, or text with more about it. */
export type Cell = string | { text: string; title?: string; mark?: 'bad' | 'quiet'; action?: string }

export interface Row {
  key: string
  cells: readonly Cell[]
}

/** A table that changes in place: what is focused or selected stays so while the numbers change. */
export class Table {
  readonly #columns: readonly Column[]
  readonly #body: HTMLElement
  readonly #rows = new Map<string, HTMLTableRowElement>()

  /** `action`: called with what the button of a cell stands for. */
  constructor(table: HTMLElement, columns: readonly Column[], action?: (what: string) => void) {
    this.#columns = columns
    const head = columns.map(({ title, isNumber, hint }) =>
      el('th', { scope: 'col', ...(isNumber && { class: 'n' }), ...(hint && { title: hint }) }, title),
    )
    table.querySelector('thead')!.replaceChildren(el('tr', {}, ...head))
    this.#body = table.querySelector('tbody')!
    makeReachable(table)
    if (!action) return
    this.#body.addEventListener('click', ({ target }) => {
      const what = (target as Element).closest('button')?.dataset.action
      if (what !== undefined) action(what)
    })
  }

  show(rows: readonly Row[]): void {
    const kept = new Set(rows.map(({ key }) => key))
    for (const [key, row] of this.#rows) {
      if (kept.has(key)) continue
      row.remove()
      this.#rows.delete(key)
    }
    for (const [n, { key, cells }] of rows.entries()) {
      const row = this.#rows.get(key) ?? this.#add(key)
      // Moving a row takes the focus away from what is in it: only if it stands elsewhere.
      if (this.#body.children[n] !== row) this.#body.insertBefore(row, this.#body.children[n] ?? null)
      for (const [column, cell] of cells.entries()) showCell(row.children[column] as HTMLElement, cell)
    }
  }

  #add(key: string): HTMLTableRowElement {
    const cells = this.#columns.map(({ isNumber }, n) =>
      n === 0 ? el('th', { scope: 'row' }) : el('td', isNumber ? { class: 'n' } : {}),
    )
    const row = el('tr', {}, ...cells)
    this.#rows.set(key, row)
    return row
  }
}

function showCell(element: HTMLElement, cell: Cell): void {
  const { text, title, mark, action } = typeof cell === 'string' ? { text: cell } : cell
  let place = element
  if (action !== undefined) {
    place = element.querySelector('button') ?? element.appendChild(el('button', { type: 'button', class: 'link' }))
    place.dataset.action = action
  }
  setText(place, text)
  element.classList.toggle('bad', mark === 'bad')
  element.classList.toggle('quiet', mark === 'quiet')
  if (title) element.title = title
  else element.removeAttribute('title')
}

/** What is wider than its place is scrolled with keys as well. */
function makeReachable(table: HTMLElement): void {
  const place = table.parentElement
  if (!place) return
  place.tabIndex = 0
  place.setAttribute('role', 'region')
  place.setAttribute('aria-label', table.getAttribute('aria-label') ?? '')
}

/** A table that is shown once. */
export function tableOf(columns: readonly Column[], rows: readonly Row[], label: string): HTMLElement {
  const table = el('table', { 'aria-label': label }, el('thead'), el('tbody'))
  const place = el('div', { class: 'scroll' }, table)
  new Table(table, columns).show(rows)
  return place
}

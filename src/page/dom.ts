/** What an element may contain. Strings become text: nothing that comes from outside is ever read as HTML. */
export type Child = Node | string

/** `attributes` are ours alone; what comes from outside may only be a `title` or a `data-` attribute. */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}

const SVG = 'http://www.w3.org/2000/svg'

export function svg(name: string, attributes: Readonly<Record<string, string>>, ...children: Child[]): SVGElement {
  const element = document.createElementNS(SVG, name) as SVGElement
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}

/** An element of the page itself. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id)
  if (!element) throw new Error(`the page has no #${id}`)
  return element as T
}

/** Writing the same text again would take away what somebody has selected. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

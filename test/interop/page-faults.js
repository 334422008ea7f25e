/**
 * Judges how a page looks, in the browser: names every text whose contrast with what is behind it is less than
 * `text`, every line of a chart with less than `line`, every text that is cut off, and a page that is too wide.
 */
// biome-ignore lint/correctness/noUnusedVariables: called by the test that reads this file.
function pageFaults(text, line) {
  const colorOf = css => {
    const [r, g, b, a = 1] = css.match(/[\d.]+/g).map(Number)
    return { r, g, b, a }
  }
  const over = (top, below) => {
    const mix = key => top[key] * top.a + below[key] * (1 - top.a)
    return { r: mix('r'), g: mix('g'), b: mix('b'), a: 1 }
  }
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map(value => {
      const part = value / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05)
  }
  /** The element and what contains it, the outermost first. */
  const chainOf = element => (element ? [...chainOf(element.parentElement), element] : [])
  const groundOf = element =>
    chainOf(element).reduce((below, it) => over(colorOf(getComputedStyle(it).backgroundColor), below), {
      r: 255,
      g: 255,
      b: 255,
      a: 1,
    })
  const opacityOf = element => chainOf(element).reduce((all, it) => all * Number(getComputedStyle(it).opacity), 1)
  const isSeen = element => element.checkVisibility() && element.getBoundingClientRect().right > 0

  const found = []
  const judge = (name, css, element, least) => {
    const ground = groundOf(element)
    const color = colorOf(css)
    const ratio = contrast(over({ ...color, a: color.a * opacityOf(element) }, ground), ground)
    if (ratio < least) found.push(`${name} (${css}, contrast ${ratio.toFixed(2)})`)
  }
  const ownText = element =>
    [...element.childNodes]
      .filter(({ nodeType }) => nodeType === Node.TEXT_NODE)
      .map(({ data }) => data.trim())
      .join(' ')
      .trim()
  for (const element of document.body.querySelectorAll('*')) {
    if (!isSeen(element) || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) continue
    const own = ownText(element)
    const style = getComputedStyle(element)
    if (own) judge(own, style.color, element, text)
    if (element.placeholder) judge(element.placeholder, getComputedStyle(element, '::placeholder').color, element, text)
    if (element.matches('.plot .line')) judge('a line', style.stroke, element, line)
    const isCut = own && style.overflowX === 'hidden' && element.scrollWidth > element.clientWidth
    const isOut = own && element.closest('.figures div')?.getBoundingClientRect().right < lastOf(element)
    if (isCut || isOut) found.push(`${own} by its box`)
  }
  const { scrollWidth, clientWidth } = document.documentElement
  if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth} px wide`)
  return found

  /** Where the text of an element ends, which may be outside of it. */
  function lastOf(element) {
    const range = document.createRange()
    range.selectNodeContents(element)
    return range.getBoundingClientRect().right
  }
}

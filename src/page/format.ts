const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** `12,345`; below 10 with one digit, as rates need it. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return '–'
  const rounded = Math.abs(value) < 10 ? Math.round(value * 10) / 10 : Math.round(value)
  return Number.isInteger(rounded) ? WHOLE.format(rounded) : rounded.toFixed(1)
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB']

export function bytesText(value: number): string {
  if (!Number.isFinite(value)) return '–'
  let amount = value
  let unit = 0
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1000
    unit++
  }
  return `${unit === 0 ? WHOLE.format(amount) : numberText(amount)} ${UNITS[unit]}`
}

/** `0.4 ms`, `12 ms`, `1.2 s`. */
export function millisecondsText(value: number): string {
  if (!Number.isFinite(value)) return '–'
  return value < 999.5 ? `${numberText(value)} ms` : `${numberText(value / 1000)} s`
}

/** `4 s`, `12 min`, `3 h 5 min`, `4 d 2 h`. */
export function durationText(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return '–'
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  if (seconds < 60) return `${seconds} s`
  if (minutes < 60) return `${minutes} min`
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })

/** The time of day, here. */
export function clockText(at: number): string {
  // A time that no Date holds would throw.
  return Math.abs(at) <= 8.64e15 ? CLOCK.format(at) : '–'
}

export const countText = (count: number, one: string, more = `${one}s`) =>
  `${numberText(count)} ${count === 1 ? one : more}`

/** Long names in the middle of a table: the end of an id says as much as its beginning. */
export function shortText(text: string, length = 40): string {
  return text.length <= length ? text : `${text.slice(0, length - 9)}…${text.slice(-8)}`
}

/** The id of an entry of a stream, such as `1700000000000-0`: a time, and a number in it. Both may need 64 bits. */
type Parts = readonly [time: bigint, number: bigint]

const LARGEST = 2n ** 64n - 1n

function partsOf(id: string): Parts {
  const [time = '0', number = '0'] = id.split('-')
  return [BigInt(time), BigInt(number)]
}

/** The first id that an entry after `id` can have. */
export function idAfter(id: string): string {
  const [time, number] = partsOf(id)
  return number < LARGEST ? `${time}-${number + 1n}` : `${time + 1n}-0`
}

/** The earliest of some ids; undefined if there is none. */
export function earliest(ids: readonly string[]): string | undefined {
  return ids.reduce<string | undefined>(
    (least, id) => (least === undefined || isBefore(id, least) ? id : least),
    undefined,
  )
}

export function isBefore(id: string, other: string): boolean {
  const [time, number] = partsOf(id)
  const [otherTime, otherNumber] = partsOf(other)
  return time < otherTime || (time === otherTime && number < otherNumber)
}

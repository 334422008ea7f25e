import type { Random } from '../chaos/random.ts'

/** Values that have broken parsers before. */
const NASTY: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  0.1,
  2 ** 53,
  1e308,
  '',
  ' ',
  '*',
  '{',
  '\u0000',
  '\ud800',
  '\u2028',
  'é'.repeat(150),
  'x'.repeat(300),
  'all',
  'user:1',
  'channel:fuzz',
  'channel:{a}',
  'connection:x',
  'ping',
  'push.publish',
  '__proto__',
  'constructor',
  '../../etc/passwd',
  [],
  {},
  [[[[]]]],
  { toString: null },
]

const TOKENS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '\r\n',
  '\n',
  '\0',
  '%',
  '%00',
  '%zz',
  '//',
  '?',
  '#',
  '1e999',
  '-0',
  'null',
  '"__proto__":{"a":1},',
  '\ufeff',
  '\u00ff',
  '\ud83d\ude00',
  '0000000000000000000',
]

const MAX_BYTES = 4096

/** Makes inputs out of samples: most of them nearly right, which gets further than noise. */
export class Mutator {
  readonly random: Random

  constructor(random: Random) {
    this.random = random
  }

  /** A sample as text, changed in its values, in its bytes, in both or not at all. */
  bytes(samples: readonly (string | object)[]): Buffer {
    const { random } = this
    let sample = random.pick(samples)
    if (typeof sample === 'object' && random.next() < 0.6) sample = this.#changed(sample) as object
    const text = typeof sample === 'string' ? sample : JSON.stringify(sample)
    let bytes: Buffer = Buffer.from(text)
    if (random.next() < 0.1) return bytes
    const rounds = random.next() < 0.5 ? 0 : 1 + random.index(4)
    for (let i = 0; i < rounds; i++) bytes = this.#damaged(bytes, samples)
    return bytes.subarray(0, MAX_BYTES)
  }

  /** The same in another way of writing: the samples that are objects, changed before or after they are written. */
  coded(samples: readonly (string | object)[], write: (sample: object) => Uint8Array): Buffer {
    const { random } = this
    const objects = samples.filter(sample => typeof sample === 'object')
    const sample = random.pick(objects)
    let bytes = Buffer.from(write((random.next() < 0.6 ? this.#changed(sample) : sample) as object))
    const rounds = random.next() < 0.5 ? 0 : 1 + random.index(4)
    for (let i = 0; i < rounds; i++) bytes = Buffer.from(this.#damaged(bytes, samples))
    return bytes.subarray(0, MAX_BYTES)
  }

  text(samples: readonly (string | object)[]): string {
    return this.bytes(samples).toString(this.random.next() < 0.5 ? 'utf8' : 'latin1')
  }

  value(): unknown {
    return this.random.pick(NASTY)
  }

  name(): string {
    const value = this.value()
    return typeof value === 'string' ? value : JSON.stringify(value)
  }

  /** A copy with one place that is other than it was. */
  #changed(value: unknown): unknown {
    const { random } = this
    if (typeof value !== 'object' || value === null || random.next() < 0.1) return this.value()
    if (Array.isArray(value)) {
      if (value.length === 0 || random.next() < 0.2) return [...value, this.value()]
      const at = random.index(value.length)
      return value.with(at, this.#changed(value[at]))
    }
    const keys = Object.keys(value)
    const key = keys.length === 0 || random.next() < 0.2 ? this.name() : random.pick(keys)
    const rest = Object.fromEntries(Object.entries(value).filter(([name]) => name !== key || random.next() < 0.9))
    return random.next() < 0.1 ? rest : { ...rest, [key]: this.#changed((value as Record<string, unknown>)[key]) }
  }

  #damaged(bytes: Buffer, samples: readonly (string | object)[]): Buffer {
    const { random } = this
    const at = random.index(bytes.length + 1)
    const length = random.index(Math.min(20, bytes.length + 1))
    const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)]
    const kind = random.index(7)
    if (kind === 0 && bytes.length > 0) {
      const flipped = Buffer.from(bytes)
      flipped[Math.min(at, bytes.length - 1)]! ^= 1 << random.index(8)
      return flipped
    }
    if (kind === 1) return Buffer.concat([head, bytes.subarray(at + length)])
    if (kind === 2) return Buffer.concat([head, bytes.subarray(at, at + length), tail])
    if (kind === 3) return Buffer.concat([head, Buffer.from(random.pick(TOKENS)), tail])
    if (kind === 4) return head
    if (kind === 5) return Buffer.concat([head, Buffer.from(Array.from({ length }, () => random.index(256))), tail])
    const other = random.pick(samples)
    return Buffer.concat([head, Buffer.from(typeof other === 'string' ? other : JSON.stringify(other)).subarray(at)])
  }
}

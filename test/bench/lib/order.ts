/** What a shop would push: JSON as applications write it, which zlib makes about a third of. Bytes drawn at random would not shrink. */
export interface Order {
  id: string
  status: string
  createdAt: string
  customer: { name: string; email: string; street: string; city: string }
  items: Item[]
  note: string
}

interface Item {
  sku: string
  name: string
  quantity: number
  price: number
  inStock: boolean
}

const FIRST = ['Anna', 'Jonas', 'Mei', 'Carlos', 'Fatima', 'Olga', 'Samuel', 'Ines', 'Tomasz', 'Priya']
const LAST = ['Keller', 'Nguyen', 'Moreau', 'Rossi', 'Okafor', 'Lindgren', 'Novak', 'Silva', 'Tanaka', 'Brown']
const CITIES = ['Bremen', 'Lyon', 'Porto', 'Krakow', 'Uppsala', 'Ghent', 'Turin', 'Leeds', 'Aarhus', 'Graz']
const STATES = ['paid', 'packed', 'shipped', 'delivered', 'returned']
const GOODS = [
  'espresso cups',
  'desk lamp',
  'wool blanket',
  'garden hose',
  'board game',
  'rain jacket',
  'cutting board',
]
const WORDS =
  'please leave the parcel with the neighbour on the left if nobody opens and call before you ring because the dog is afraid of the bell '

/** The order of a number, always the same, as exactly so many bytes of JSON. */
export function orderOf(number: number, bytes: number): Order {
  const random = randomFrom(number)
  const order = emptyOrder(random)
  let left = bytes - JSON.stringify(order).length
  if (left < 0) throw new Error(`an order has more than ${bytes} bytes`)
  for (;;) {
    const item = itemOf(random)
    const length = JSON.stringify(item).length + Number(order.items.length > 0)
    if (length > left - MIN_NOTE) break
    order.items.push(item)
    left -= length
  }
  const from = Math.floor(random() * WORDS.length)
  order.note = WORDS.repeat(Math.ceil((from + left) / WORDS.length)).slice(from, from + left)
  return order
}

/** Every order has a few words of its own. */
const MIN_NOTE = 30

function emptyOrder(random: () => number): Order {
  const [first, last] = [pick(random, FIRST), pick(random, LAST)]
  return {
    id: hex(random, 12),
    status: pick(random, STATES),
    createdAt: new Date(1.7e12 + Math.floor(random() * 1e10)).toISOString(),
    customer: {
      name: `${first} ${last}`,
      email: `${first}.${last}${Math.floor(random() * 100)}@example.com`.toLowerCase(),
      street: `${pick(random, LAST)} Street ${1 + Math.floor(random() * 200)}`,
      city: pick(random, CITIES),
    },
    items: [],
    note: '',
  }
}

function itemOf(random: () => number): Item {
  return {
    sku: hex(random, 8),
    name: pick(random, GOODS),
    quantity: 1 + Math.floor(random() * 9),
    price: Math.floor(random() * 20_000) / 100,
    inStock: random() < 0.8,
  }
}

function pick<T>(random: () => number, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)]!
}

function hex(random: () => number, digits: number): string {
  return Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join('')
}

/** mulberry32: small, and the same on every machine. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

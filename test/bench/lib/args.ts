import { parseArgs } from 'node:util'
import type { Peer } from './peers.ts'
import { OPTIONAL_PEERS, PEERS } from './peers.ts'
import type { Scenario } from './scenario.ts'

export const USAGE = `npm run bench -- [options]
  --scenario a,b    which scenarios, of a to j, r, p, v, w, m, z, y, s, o and ceiling (all)
  --peers x,y       which peers, of ${PEERS.map(peer => peer.name).join(', ')} (all); ${OPTIONAL_PEERS.map(peer => peer.name).join(', ')} if named
  --repeat 5        rounds; the table shows medians
  --quick           fewer messages and one round: to see that it works, not to measure
  --deadline 60     seconds for one run of one peer
  --json FILE       where the JSON goes`

export interface Options {
  scenarios: Scenario[]
  peers: Peer[]
  repeat: number
  quick: boolean
  deadline: number
  json: string | undefined
}

export function parse(args: string[], known: Scenario[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      scenario: { type: 'string' },
      peers: { type: 'string' },
      repeat: { type: 'string' },
      quick: { type: 'boolean', default: false },
      deadline: { type: 'string', default: '60' },
      json: { type: 'string' },
    },
  })
  const repeat = Number(values.repeat ?? (values.quick ? 1 : 5))
  const deadline = Number(values.deadline)
  if (!Number.isInteger(repeat) || repeat < 1) throw new Error('--repeat must be 1 or more')
  if (!(deadline >= 10)) throw new Error('--deadline must be at least 10 seconds')
  return {
    scenarios: chosen('scenario', values.scenario, known, scenario => scenario.id),
    peers: values.peers ? chosen('peer', values.peers, [...PEERS, ...OPTIONAL_PEERS], peer => peer.name) : PEERS,
    repeat,
    quick: values.quick,
    deadline: deadline * 1000,
    json: values.json,
  }
}

function chosen<T>(what: string, list: string | undefined, all: T[], nameOf: (item: T) => string): T[] {
  if (list === undefined) return all
  return list.split(',').map(name => {
    const item = all.find(candidate => nameOf(candidate) === name.trim())
    if (!item) throw new Error(`no ${what} ${name}: there are ${all.map(nameOf).join(', ')}`)
    return item
  })
}

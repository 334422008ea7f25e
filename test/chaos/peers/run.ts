import { parseArgs } from 'node:util'
import { buildPeers, forgetPeers, PEER_NAMES, type Peer } from './build.ts'
import { type Score, sum } from './judge.ts'
import { runPeer } from './seed-run.ts'

const USAGE = `npx tsx test/chaos/peers/run.ts [--seeds 1..5] [--seconds 6] [--clients 60] [--peers ${PEER_NAMES}] [--keep]
  First: npm ci --prefix test/chaos/peers
`

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1..5' },
    seconds: { type: 'string', default: '6' },
    clients: { type: 'string', default: '60' },
    peers: { type: 'string', default: PEER_NAMES.join(',') },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const COLUMNS: [keyof Score, string][] = [
  ['acknowledged', 'acknowledged'],
  ['expected', 'deliveries expected'],
  ['silent', 'missing silently'],
  ['neverTold', 'of these never told'],
  ['told', 'missing but told'],
  ['duplicates', 'duplicates'],
  ['disordered', 'out of order'],
  ['absent', 'clients absent'],
]

function seedsOf(): number[] {
  const [first, last = first] = values.seeds.split('..').map(Number) as [number, number?]
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

function tableOf(scores: Record<string, Score>): string {
  const rows = [
    ['', ...COLUMNS.map(([, title]) => title)],
    ['---', ...COLUMNS.map(() => '---:')],
    ...Object.entries(scores).map(([peer, score]) => [
      peer,
      ...COLUMNS.map(([key]) => score[key].toLocaleString('en')),
    ]),
  ]
  return rows.map(row => `| ${row.join(' | ')} |`).join('\n')
}

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(USAGE)
  const programs = await buildPeers()
  const peers = values.peers.split(',') as Peer[]
  const runs: { peer: Peer; seed: number; score: Score }[] = []
  const run = { seconds: Number(values.seconds), clients: Number(values.clients), keep: values.keep }
  for (const seed of seedsOf()) {
    for (const peer of peers) {
      const score = await runPeer({ ...run, seed, programs: `${programs}/${peer}` })
      process.stderr.write(`seed ${seed} ${peer} ${JSON.stringify(score)}\n`)
      runs.push({ peer, seed, score })
    }
  }
  const total = (peer: Peer) => sum(runs.filter(each => each.peer === peer).map(({ score }) => score))
  const totals = Object.fromEntries(peers.map(peer => [peer, total(peer)]))
  process.stdout.write(`${tableOf(totals)}\n\n${JSON.stringify({ totals, runs })}\n`)
  forgetPeers(programs)
}

await main()
process.exit(0)

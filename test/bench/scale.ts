/** How far does it scale? Masters, nodes, topics, one hot topic; docs/scale.md computes with these numbers. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { compile, installPeers, ourEntry } from './lib/build.ts'
import { describe } from './lib/machine.ts'
import { redisVersion } from './lib/redis.ts'
import { part as hot } from './scale/hot.ts'
import { type Numbers, type Part, Run, type Scale } from './scale/run.ts'
import { part as throughput } from './scale/throughput.ts'
import { part as topics } from './scale/topics.ts'

const PARTS: Record<string, Part> = { throughput, topics, hot }

const USAGE = `npm run bench:scale -- [options]
  --part a,b        of ${Object.keys(PARTS).join(', ')} (all)
  --only TEXT       only the cases whose name contains this
  --repeat 5        rounds; the table shows medians
  --quick           fewer messages and one round: to see that it works, not to measure
  --profile FOLDER  a CPU profile of each node goes there, with --part topics
  --json FILE       where the JSON goes`

interface Row {
  name: string
  runs: Numbers[]
  failures: string[]
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      part: { type: 'string', default: Object.keys(PARTS).join() },
      only: { type: 'string', default: '' },
      repeat: { type: 'string' },
      quick: { type: 'boolean', default: false },
      profile: { type: 'string' },
      json: { type: 'string' },
    },
  })
  const repeat = Number(values.repeat ?? (values.quick ? 1 : 5))
  installPeers()
  await compile()
  const entry = ourEntry()
  const scale: Scale = { entry, quick: values.quick, profile: values.profile && resolve(values.profile) }
  const tables: Record<string, Row[]> = {}
  for (const name of values.part.split(',')) {
    const part = PARTS[name]
    if (!part) throw new Error(`there is no part ${name}`)
    tables[name] = await runPart(scale, part, { repeat, only: values.only })
    console.log(tableOf(part, tables[name]))
  }
  const machine = describe(redisVersion())
  if (values.json) {
    const file = resolve(values.json)
    mkdirSync(dirname(file), { recursive: true })
    const report = { date: new Date().toISOString(), machine, entry: entry.name, repeat, quick: values.quick, tables }
    writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`)
  }
  console.log(`${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, Redis ${machine.redis}, ${entry.name}`)
}

/** Round by round, so that what disturbs the machine for a while disturbs all; each round begins with another case. */
async function runPart(scale: Scale, { cases }: Part, { repeat, only }: { repeat: number; only: string }) {
  const chosen = cases.filter(({ name }) => name.includes(only))
  const rows = chosen.map(({ name }): Row => ({ name, runs: [], failures: [] }))
  for (let round = 0; round < repeat; round++) {
    for (let turn = 0; turn < chosen.length; turn++) {
      const index = (turn + round) % chosen.length
      const run = new Run(scale)
      try {
        rows[index]!.runs.push(await chosen[index]!.measure(run))
      } catch (error) {
        rows[index]!.failures.push((error as Error).message)
      } finally {
        await run.stop()
      }
    }
  }
  return rows
}

function tableOf({ title, columns }: Part, rows: Row[]): string {
  const head = ['', ...columns.map(({ label }) => label), 'complete']
  const lines = rows.map(({ name, runs, failures }) => {
    const done = runs.filter(({ complete }) => complete === 1).length
    const cells = columns.map(({ key, digits }) => format(medianOf(runs, key), digits))
    return [name, ...cells, `${done}/${runs.length + failures.length}`]
  })
  const rule = head.map((_, i) => (i === 0 ? '---' : '--:'))
  const table = [head, rule, ...lines].map(cells => `| ${cells.join(' | ')} |`)
  const notes = rows.flatMap(({ name, failures }) => [...new Set(failures)].map(failure => `- ${name}: ${failure}`))
  return [`### ${title}`, '', ...table, '', ...notes, ''].join('\n')
}

function medianOf(runs: Numbers[], key: string): number {
  const values = runs.map(run => run[key] ?? Number.NaN).toSorted((a, b) => a - b)
  const half = values.length >> 1
  return values.length % 2 === 1 ? values[half]! : (values[half - 1]! + values[half]!) / 2
}

function format(value: number, digits: number): string {
  if (Number.isNaN(value)) return '–'
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

main().catch(error => {
  console.error((error as Error).message)
  console.error(USAGE)
  process.exitCode = 1
})

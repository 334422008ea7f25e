import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Cleanup, Program, path, temporaryFolder } from './processes.ts'
import { findProgram } from './programs.ts'
import { freePort } from './redis.ts'
import { START, within } from './waiting.ts'

type Labels = Readonly<Record<string, string>>

export interface Prometheus {
  readonly program: Program
  /** The value of each series that a query gives now. */
  query(expression: string): Promise<{ labels: Labels; value: number }[]>
  get(path: string): Promise<unknown>
}

interface Answer {
  status: string
  data: { result: { metric: Labels; value: [number, string] }[] }
}

/** Runs Prometheus with `example/monitoring/`, looking at this address every second. `key`: the METRICS_KEY of the node. */
export async function startPrometheus(t: Cleanup, target: string, key?: string): Promise<Prometheus> {
  const folder = temporaryFolder(t)
  const port = await freePort()
  copyFileSync(path('example/monitoring/rules.yml'), join(folder, 'rules.yml'))
  let text = readFileSync(path('example/monitoring/prometheus.yml'), 'utf8')
    .replace("'127.0.0.1:9464'", `'${target}'`)
    .replaceAll('_interval: 15s', '_interval: 1s')
  if (key !== undefined) {
    writeFileSync(join(folder, 'push.key'), key)
    text = text
      .replace('# authorization:', 'authorization:')
      .replace('/etc/prometheus/push.key', join(folder, 'push.key'))
  }
  writeFileSync(join(folder, 'prometheus.yml'), text)
  const flags = [
    `--config.file=${join(folder, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]
  const program = new Program(t, findProgram('prometheus')!, flags)
  await program.line(/Server is ready to receive web requests/, START)
  const get = async (url: string) => {
    const response = await within(fetch(`http://127.0.0.1:${port}${url}`), url)
    return response.json() as Promise<unknown>
  }
  const query = async (expression: string) => {
    const { status, data } = (await get(`/api/v1/query?query=${encodeURIComponent(expression)}`)) as Answer
    if (status !== 'success') throw new Error(`${expression}: ${status}`)
    return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }))
  }
  return { program, get, query }
}

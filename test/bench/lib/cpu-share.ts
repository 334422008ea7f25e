import { type Profiler, Session } from 'node:inspector/promises'

/** Microseconds between two samples: a turn of a node lasts half a second. */
const INTERVAL = 200

/** Code that is looked for in the stacks of a profile, by the file that it is in, or a function of it. */
const CODE: Readonly<Record<string, (file: string, name: string) => boolean>> = {
  metrics: file => /\/prom-client\/|\/monitoring\/exposition\.[jt]s$/.test(file),
  limits: (file, name) =>
    /\/(?:routes\/(?:addresses|networks|upgrade-gate)|node\/token-bucket)\.[jt]s$/.test(file) || name === '#pay',
}

/** Percent of the time at work that was spent in each kind of code, and in what it calls. */
export type Shares = Record<keyof typeof CODE, number>

let session: Session | undefined

export async function startProfile(): Promise<void> {
  session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.setSamplingInterval', { interval: INTERVAL })
  await session.post('Profiler.start')
}

export async function endProfile(): Promise<Shares> {
  if (!session) throw new Error('no profile was begun')
  const { profile } = await session.post('Profiler.stop')
  session.disconnect()
  session = undefined
  return sharesIn(profile)
}

function sharesIn({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Shares {
  const byId = new Map(nodes.map(node => [node.id, node]))
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map(child => [child, id] as const)))
  const spent = new Map<number, number>()
  for (const [index, id] of samples.entries()) spent.set(id, (spent.get(id) ?? 0) + timeDeltas[index]!)
  const isWithin = (id: number | undefined, fits: (file: string, name: string) => boolean): boolean => {
    for (let at = id; at !== undefined; at = parents.get(at)) {
      const { url, functionName } = byId.get(at)!.callFrame
      if (fits(url, functionName)) return true
    }
    return false
  }
  const timeOf = (fits: (file: string, name: string) => boolean) =>
    [...spent].reduce((sum, [id, time]) => sum + (isWithin(id, fits) ? time : 0), 0)
  const busy = timeOf(() => true) - timeOf((_file, name) => name === '(idle)')
  return Object.fromEntries(Object.entries(CODE).map(([name, fits]) => [name, (100 * timeOf(fits)) / busy]))
}

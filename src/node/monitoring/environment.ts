/** The flags of `serve` that are about metrics, for `parseArgs`. */
export const METRICS_FLAGS = {
  metrics: { type: 'string' },
  'metrics-listen': { type: 'string' },
} as const

export const METRICS_USAGE = `
  METRICS                 --metrics /metrics          path at which Prometheus reads metrics; needs the package prom-client
  METRICS_LISTEN          --metrics-listen HOST:PORT  an address of their own for them, such as 127.0.0.1:9464
  METRICS_KEY                                         secret of 16 characters or more that Prometheus sends as a Bearer token
`

/** Where `serve` shows its metrics. */
export interface MetricsSettings {
  path: string
  /** Undefined: beside everything else. */
  listen: { host: string; port: number } | undefined
  key: string | undefined
}

const MIN_KEY_LENGTH = 16

type Values = Record<string, string | boolean | undefined>

/** Undefined if nothing is set: nobody sees metrics because somebody set nothing. Flags win, and what is empty is not set. */
export function readMetrics(values: Values, env: NodeJS.ProcessEnv): MetricsSettings | undefined {
  const path = (values.metrics as string | undefined) || env.METRICS || undefined
  const listen = (values['metrics-listen'] as string | undefined) || env.METRICS_LISTEN || undefined
  // From the environment alone: what stands in a command is seen by every user of the machine.
  const key = env.METRICS_KEY || undefined
  if (path === undefined) {
    const set = listen ? 'METRICS_LISTEN (--metrics-listen)' : key ? 'METRICS_KEY' : undefined
    if (set) throw new Error(`${set} is set, but not METRICS (--metrics): write METRICS=/metrics`)
    return undefined
  }
  if (!/^\/[^\s?#*:]*$/.test(path))
    throw new Error(`METRICS (--metrics) is "${path}": it must be a path such as /metrics`)
  if (key !== undefined && key.length < MIN_KEY_LENGTH) {
    throw new Error(`METRICS_KEY has ${key.length} characters and can be guessed: use ${MIN_KEY_LENGTH} or more`)
  }
  return { path, listen: listen === undefined ? undefined : readAddress(listen), key }
}

/** `127.0.0.1:9464`, `[::1]:9464`; a port alone is one of this machine, since all interfaces would be open to everybody. */
function readAddress(text: string): { host: string; port: number } {
  const [, v6, v4, digits] = /^(?:(?:\[([\da-f:.]+)\]|([^\s[\]:]+)):)?(\d{1,5})$/i.exec(text) ?? []
  const port = Number(digits ?? Number.NaN)
  if (port >= 0 && port <= 65535) return { host: v6 ?? v4 ?? '127.0.0.1', port }
  throw new Error(`METRICS_LISTEN (--metrics-listen) is "${text}": it must be HOST:PORT such as 127.0.0.1:9464`)
}

/** What happened to a publication on its way, one after the other. */
export const STEPS = [
  'published',
  'taken',
  'received',
  'queued',
  'skipped',
  'rejected',
  'written',
  'waiting',
  'acknowledged',
] as const

/** One step of a publication that is traced. */
export interface TraceStep {
  /** Who says so: the node that published, `publisher` for a script, or a node that received. */
  node: string
  /** By the clock of that node, in milliseconds since 1970. */
  at: number
  what: (typeof STEPS)[number]
  /** Of how many connections that is said. */
  connections?: number
  /** Why they were skipped, or why it was rejected. */
  reason?: string
  /** How many nodes were listening when the broker had taken it. */
  nodes?: number
}

export type NodeStep = Omit<TraceStep, 'node' | 'nodes'>

/** Steps of one node, and of all of them: so many there are not. */
const MAX_OF_NODE = 100
export const MAX_STEPS = 1000

const MAX_TEXT = 100

/** What a node says of itself. Any program may have written it: whatever is no step is left out. */
export function stepsOf(node: string, steps: unknown): TraceStep[] {
  if (!Array.isArray(steps)) return []
  return steps.slice(0, MAX_OF_NODE).flatMap(step => {
    const { at, what, connections, reason } = (step ?? {}) as Partial<Record<string, unknown>>
    if (typeof at !== 'number' || !Number.isFinite(at) || !STEPS.includes(what as never)) return []
    return {
      node,
      at,
      what: what as TraceStep['what'],
      ...(Number.isInteger(connections) && { connections: connections as number }),
      ...(typeof reason === 'string' && { reason: reason.slice(0, MAX_TEXT) }),
    }
  })
}

/** Whether the members of `ext` ask for a trace. */
export function isTraced(ext: object | undefined): boolean {
  return (ext as { trace?: unknown } | undefined)?.trace === true
}

/** The child's side of the bench's remote calls: the orchestrator asks over Node's IPC channel, the child answers. */
export interface Request {
  id: number
  op: string
  args: unknown
}

export interface Response {
  id: number
  result?: unknown
  error?: string
}

// biome-ignore lint/suspicious/noExplicitAny: each operation names the shape of its own arguments
export type Operations = Record<string, (args: any) => unknown>

export function answer(operations: Operations): void {
  process.on('message', (request: Request) => void respond(operations, request))
  // The orchestrator is gone: leave nothing behind.
  process.on('disconnect', () => process.exit(0))
}

async function respond(operations: Operations, { id, op, args }: Request): Promise<void> {
  const response: Response = { id }
  try {
    const operation = operations[op]
    if (!operation) throw new Error(`no operation ${op}`)
    response.result = await operation(args)
  } catch (error) {
    response.error = error instanceof Error ? error.message : String(error)
  }
  process.send?.(response)
}

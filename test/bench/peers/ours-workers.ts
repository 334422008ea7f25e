/** This project with a handler that computes, in worker threads. */
import { Type } from 'typebox'
import { serveOurs } from '../lib/ours.ts'

// From node_modules/.cache/bench/peers/, where this runs, to the source: what a thread loads is not bundled.
const COMPUTE = new URL('../../../../lib/compute.mjs', import.meta.url)

await serveOurs({
  handlers: { compute: { schema: Type.Object({ rounds: Type.Number() }), worker: COMPUTE } },
  workers: { threads: 2, queue: 100 },
})

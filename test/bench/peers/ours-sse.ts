/** Event streams; the clients of this run use them. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ sse: true })

/** This project as a user runs it. The orchestrator names the entry: the built one if it is current, else the source. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs()

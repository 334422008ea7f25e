/** This project with compression, as a user turns it on. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ compression: true })

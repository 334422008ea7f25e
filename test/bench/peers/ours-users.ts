/** This project with presence: who is online. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ presence: { users: true } })

/** This project with presence: who is on each channel, as a list of up to 10,000. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ presence: { 'channel:*': { members: 10_000 } } })

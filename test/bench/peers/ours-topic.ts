/** This project with presence: who is on each channel. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ presence: { 'channel:*': true } })

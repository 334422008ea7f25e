/** This project with a codec besides JSON; the clients of this run choose it. */
import { serveOurs } from '../lib/ours.ts'

await serveOurs({ codecs: ['json', 'msgpack'] })

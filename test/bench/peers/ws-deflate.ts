/** Plain ws with permessage-deflate and its defaults: a window for each connection, so that a message may refer to earlier ones. */
import { serveWs } from '../lib/plain.ts'

serveWs(true)

/** Plain ws with permessage-deflate, where each message is compressed by itself. */
import { serveWs } from '../lib/plain.ts'

serveWs({ serverNoContextTakeover: true, clientNoContextTakeover: true })

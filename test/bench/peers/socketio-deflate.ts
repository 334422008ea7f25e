/** Socket.IO with compression, as a user turns it on. */
import { serveSocketIo } from '../lib/socketio.ts'

await serveSocketIo(true)

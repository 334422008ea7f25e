/** Socket.IO as it is by default. */
import { serveSocketIo } from '../lib/socketio.ts'

await serveSocketIo()

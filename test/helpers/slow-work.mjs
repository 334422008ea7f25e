import { getPriority } from 'node:os'
import { threadId } from 'node:worker_threads'

/** What the tests of workers have done in a thread, by its name. */
const WORK = {
  echo: ({ payload, connection }) => ({ payload, connection, threadId }),
  // Nothing but the end of the thread ends this.
  hang: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0),
  fail: () => {
    throw new TypeError('the database is away')
  },
  refuse: () => {
    throw { statusCode: 409, code: 'SOLD_OUT', message: 'none is left' }
  },
  later: () => {
    setImmediate(() => {
      throw new Error('nobody waits for this')
    })
    return 'done'
  },
  exit: () => process.exit(3),
  // On Linux of the thread that asks.
  priority: () => getPriority(0),
  unclonable: () => () => 'a function',
}

export default task => WORK[task.payload.work](task)

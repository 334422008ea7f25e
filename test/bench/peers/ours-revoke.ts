/** This project, as an operator uses it who ends the sessions of a user. */
import { serveOurs } from '../lib/ours.ts'
import { micros } from '../lib/stamp.ts'

// More connections than a user may have by default.
await serveOurs({ limits: { userConnections: 10_000 } }, app => ({
  /** When it was called, and when it returned. */
  async revoke({ user }: { user: string }): Promise<{ calledAt: number; doneAt: number }> {
    const calledAt = micros()
    await app.push.revoke(`user:${user}`)
    return { calledAt, doneAt: micros() }
  },
}))

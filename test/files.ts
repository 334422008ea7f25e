import { readdirSync } from 'node:fs'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Files at once. Many wait for deadlines and failovers most of the time: three of them share two cores. */
export const CONCURRENCY = 3

const FOLDER = fileURLToPath(new URL('./', import.meta.url))

/** What `npm test` leaves out: commands and helpers of their own. */
const APART = /^(interop|package|bench|chaos|helpers|types)\//

/** The files of `npm test`, which mirror `src/`; or with `folder` those of it alone. */
export function testFiles(folder?: 'interop' | 'package'): string[] {
  const isMeant = (name: string) => (folder ? name.startsWith(`${folder}/`) : !APART.test(name))
  return readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
    .map(name => name.split(sep).join('/'))
    .filter(name => name.endsWith('.test.ts') && !name.includes('node_modules/') && isMeant(name))
    .sort()
    .map(name => join(FOLDER, name))
}

/** Where it matters how bytes are written to the sockets of clients. */
const WITH_CLIENTS =
  /^(client|connection|delivery)\/|^node\/(?!events)|^(routes\/sockets|two-nodes|rolling-restart|bridge)$/

/** What takes long because servers of Redis fail, elect and refuse: they do so in the same way on every line of Node. */
const OF_SERVERS = /^(chaos|broker\/redis\/(sentinel|servers|sharded|acl(-suite)?|cluster(-faults|-confirmation)?))$/

/** For other lines of Node than the oldest. `isWhole`: with what is of servers as well. */
export function testFilesOfNode({ isWhole }: { isWhole: boolean }): string[] {
  return testFiles().filter(file => isWhole || !OF_SERVERS.test(testName(file)))
}

export function testFilesWithClients(): string[] {
  return testFiles().filter(file => WITH_CLIENTS.test(testName(file)))
}

/** `client/recovery` for test/client/recovery.test.ts. */
export function testName(file: string): string {
  return file.slice(FOLDER.length, -'.test.ts'.length)
}

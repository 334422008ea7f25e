import { bench } from './bench.ts'
import { CALLS } from './calls.ts'
import type { Call, Task } from './command.ts'
import { completion } from './completion.ts'
import { doctor } from './doctor.ts'
import { explain } from './explain.ts'
import { subscribe } from './subscribe.ts'
import { top } from './top.ts'

/** Every command besides `serve`. */
export const COMMANDS: Readonly<Record<string, Call | Task>> = {
  ...CALLS,
  subscribe,
  explain,
  top,
  doctor,
  bench,
  completion,
}

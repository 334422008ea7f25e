import { readFileSync } from 'node:fs'
import { path } from './processes.ts'

export interface FrontEndBlock {
  /** What its first line says: the file in which a reader would put it. */
  name: string
  code: string
}

/** The code in docs/front-ends.md that begins with the name of its file. */
export function frontEndBlocks(): FrontEndBlock[] {
  const text = readFileSync(path('docs/front-ends.md'), 'utf8')
  const blocks = text.matchAll(/^```\w+\n(\/\/ ([\w.-]+)\n[\s\S]*?)^```/gm)
  return [...blocks].map(([, code, name]) => ({ name: name!, code: code! }))
}

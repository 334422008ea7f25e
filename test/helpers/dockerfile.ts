import { readFileSync } from 'node:fs'

/** One instruction of a Dockerfile: its word in capitals, its flags, and what follows. */
export interface Step {
  readonly word: string
  readonly flags: Readonly<Record<string, string>>
  readonly text: string
}

export interface Stage {
  readonly base: string
  readonly name: string | undefined
  readonly steps: readonly Step[]
}

/** The stages of a Dockerfile. Throws at a line that is no instruction. */
export function parseDockerfile(text: string): Stage[] {
  const stages: { base: string; name: string | undefined; steps: Step[] }[] = []
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
  for (const line of lines.filter(line => line.trim() !== '')) {
    const step = parseStep(line)
    const from = /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(step.text)
    if (step.word === 'FROM' && from) stages.push({ base: from[1]!, name: from[2], steps: [] })
    else if (step.word === 'FROM' || stages.length === 0) throw new Error(`not in a Dockerfile: ${line}`)
    else stages.at(-1)!.steps.push(step)
  }
  return stages
}

export const readDockerfile = (file: string): Stage[] => parseDockerfile(readFileSync(file, 'utf8'))

function parseStep(line: string): Step {
  const [, word, rest] = /^\s*([A-Z]+)\s+(\S.*?)\s*$/.exec(line) ?? []
  if (!word || !rest) throw new Error(`no instruction of a Dockerfile: ${line}`)
  const flags: Record<string, string> = {}
  let text = rest
  for (let found = flagOf(text); found; found = flagOf(text)) {
    flags[found[1]!] = found[2]!
    text = text.slice(found[0].length)
  }
  return { word, flags, text }
}

const flagOf = (text: string) => /^--([a-z-]+)=(\S+)\s+/.exec(text)

/** The text of the last step with this word, which is the one that counts. */
export function lastStep(stage: Stage, word: string): Step {
  const step = stage.steps.findLast(step => step.word === word)
  if (!step) throw new Error(`the stage of ${stage.base} has no ${word}`)
  return step
}

/** The words of `["node", "x.js"]`, with or without CMD before it. */
export const wordsOf = (text: string): string[] => JSON.parse(text.replace(/^CMD\s+/, '')) as string[]

/** Every variable that the stage sets. */
export function environmentOf(stage: Stage): Record<string, string> {
  const pairs = stage.steps.filter(({ word }) => word === 'ENV').flatMap(({ text }) => text.split(/\s+/))
  return Object.fromEntries(pairs.map(pair => pair.split('=') as [string, string]))
}

import { readFileSync } from 'node:fs'
import { path } from './processes.ts'

/** A section of docs/ingress.md. */
export function sectionOf(heading: string): string {
  const [, section] = readFileSync(path('docs/ingress.md'), 'utf8').split(`\n## ${heading}\n`)
  if (section === undefined) throw new Error(`docs/ingress.md has no heading "${heading}"`)
  return section.split('\n## ')[0]!
}

/** The code blocks of a language in a section. */
export function blocksOf(heading: string, language: string): string[] {
  return [...sectionOf(heading).matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter(([, lang]) => lang === language)
    .map(([, , code]) => code!)
}

import type { Explanation } from './report-schemas.ts'

/** What a person should conclude, the most important first. */
export function findingsOn({ nodes }: Omit<Explanation, 'findings'>): string[] {
  const findings: string[] = []
  if (nodes.every(({ connections }) => connections === 0)) {
    findings.push('No node that answered has the topic: nobody is subscribed.')
  }
  return findings
}

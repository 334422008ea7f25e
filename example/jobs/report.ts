/** What the node and the workers agree on. */
export const QUEUE = 'reports'

/** Results are recorded, so that a page that was away gets them when it is back. Nodes and workers need the same rule. */
export const HISTORY = { 'user:*': { size: 100, ttl: 3600 } }

export const ATTEMPTS = 3

export interface ReportJob {
  user: string
  year: number
}

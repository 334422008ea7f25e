import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import type { Answer, Asked, Inquiry, NotedRejection, RecordedTopic } from '../../broker/inquiry.ts'
import { errors } from '../../protocol/errors.ts'
import { nodesProblem } from '../../protocol/question.ts'
import { type Topic, topicProblem } from '../../protocol/topic.ts'
import { unknownKey } from '../../protocol/unknown-keys.ts'
import { findingsOn } from './findings.ts'
import {
  type Explanation,
  type NodeReport,
  NodeReportSchema,
  type Nodes,
  type TopicReport,
  TopicReportSchema,
} from './report-schemas.ts'

/** What to ask nodes besides how they are. */
export interface NodesQuery {
  /** Numbers of the last ten minutes. */
  samples?: boolean | undefined
  /** So many of the topics with most publications, at most 100. */
  topics?: number | undefined
}

/** How every node is. Rejects with a PushError for a wrong query only: who cannot be asked is missing. */
export async function askNodes(inquiry: Inquiry, query: NodesQuery = {}): Promise<Nodes> {
  if (typeof query !== 'object' || query === null) {
    throw new errors.FIELD('the query is no object such as { samples: true }')
  }
  const unknown = unknownKey(query, ['samples', 'topics'])
  if (unknown) throw new errors.UNKNOWN_KEY(unknown)
  const problem = nodesProblem(query)
  if (problem) throw new errors.FIELD(problem)
  const { samples, topics } = query
  const { reports, ...about } = readReports<NodeReport>(
    await inquiry.ask({ ask: 'nodes', samples, topics }),
    NodeReportSchema,
  )
  return { nodes: reports, ...about }
}

/** Why something did or did not arrive on a topic. Rejects with a PushError for what is no topic only. */
export async function explain(
  inquiry: Inquiry,
  topic: unknown,
  isRecorded: (topic: Topic) => boolean,
): Promise<Explanation> {
  const wrong = topicProblem(topic)
  if (wrong) throw new errors.TOPIC(wrong)
  const known = topic as Topic
  const [asked, recorded, rejected] = await Promise.all([
    inquiry.ask({ ask: 'explain', topic: known }),
    tried(inquiry.recorded(known)),
    tried(inquiry.rejected(known)),
  ])
  const { reports: nodes, ...about } = readReports<TopicReport>(asked, TopicReportSchema)
  const hasRule = isRecorded(known) || nodes.some(node => node.recorded)
  const explanation = {
    topic: known,
    now: Date.now(),
    nodes,
    ...about,
    history: historyOf(recorded.value, hasRule && !recorded.problem),
    rejected: rejected.value ?? [],
  }
  const problems = [recorded.problem && `The history cannot be read: ${recorded.problem}.`]
  problems.push(rejected.problem && `Rejected envelopes cannot be read: ${rejected.problem}.`)
  return { ...explanation, findings: [...findingsOn(explanation), ...problems.filter(it => it !== undefined)] }
}

function historyOf(recorded: RecordedTopic | undefined, hasRule: boolean): Explanation['history'] {
  if (!recorded) return hasRule ? { size: 0 } : null
  const { head, size } = recorded
  return { ...(head && { head }), size }
}

interface Tried<T> {
  value: T | undefined
  problem: string | undefined
}

async function tried<T extends RecordedTopic | undefined | NotedRejection[]>(reading: Promise<T>): Promise<Tried<T>> {
  return reading.then(
    value => ({ value, problem: undefined }),
    (error: Error) => ({ value: undefined, problem: error.message }),
  )
}

const checks = new Map<TSchema, (value: unknown) => boolean>()

/** Compiled when somebody asks: a node that nobody asks need not wait for it at its start. */
function checkOf(schema: TSchema): (value: unknown) => boolean {
  const known = checks.get(schema)
  if (known) return known
  const validator = Compile(schema)
  const check = (value: unknown) => validator.Check(value)
  checks.set(schema, check)
  return check
}

/** Any program may have written an answer: one that is no report counts as missing. */
function readReports<R extends { node: string; registration: string }>(
  { answers, expected, complete, problem }: Asked,
  schema: TSchema,
) {
  const check = checkOf(schema)
  const known = answers.map(({ node, answer }): Answer => ({ node, answer: cleaned(schema, answer) }))
  const isReport = ({ node, answer }: Answer) => check(answer) && (answer as R).node === node
  const reports = known.filter(isReport).map(({ answer }) => answer as R)
  const byName = (a: R, b: R) => compare(a.node, b.node) || compare(a.registration, b.registration)
  return {
    reports: reports.sort(byName),
    ...(expected !== undefined && { expected }),
    complete: complete && reports.length === answers.length,
    ...(problem !== undefined && { problem }),
  }
}

/** Without what the schema does not know. Of hostile depth it overflows the stack: then it is no report. */
function cleaned(schema: TSchema, answer: unknown): unknown {
  try {
    return Value.Clean(schema, answer)
  } catch {
    return undefined
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

import { type CreatePublisherOptions, createPublisher } from '../../src/publisher.ts'
import type { Terminal } from '../../src/terminal/command.ts'
import { runCall } from '../../src/terminal/run.ts'

export interface Said {
  code: number
  out: string
  err: string
}

export interface Started {
  /** What it has said so far. */
  said: { out: string; err: string }
  /** How Ctrl-C ends it. */
  end(): void
  done: Promise<Said>
}

/** Commands in this process, with a Redis or without. An underscore stands for a blank. */
export function commands(
  way: { redis: CreatePublisherOptions['redis']; redisPrefix: string } | undefined,
  env: NodeJS.ProcessEnv = {},
) {
  const parts = {
    flags: { redis: { type: 'string' } as const },
    env,
    way: () => way,
    open() {
      if (!way) throw new Error('REDIS_URL (--redis) is not set')
      return createPublisher(way)
    },
  }
  const start = (line: string, more: Partial<Terminal> = {}): Started => {
    const said = { out: '', err: '' }
    const end = new AbortController()
    const [name, ...argv] = line.split(' ')
    const terminal: Terminal = {
      out: text => {
        said.out += text
      },
      err: text => {
        said.err += text
      },
      input: async () => '',
      ended: end.signal,
      ...more,
    }
    const given = argv.map(part => part.replaceAll('_', ' '))
    const done = runCall(name!, given, parts, terminal).then(code => ({ code, ...said }))
    return { said, end: () => end.abort(), done }
  }
  return { start, run: (line: string) => start(line).done }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CONCURRENCY, testFiles, testName } from './files.ts'
import { findProgram } from './helpers/programs.ts'

/**
 * Runs the tests again and again, under conditions in which a test that depends on the speed of the machine fails:
 *
 *     npm run test:repeat -- --times 20 --mode alone,busy,pinned,shuffled --files broker/redis/recovery,client/client --minutes 60
 *
 * `busy`: another program keeps every core occupied. `pinned`: everything shares one core. `shuffled`: the order of the
 * files is random, and `--seed` repeats it. The output of what failed is kept.
 */
const MODES = ['alone', 'busy', 'pinned', 'shuffled'] as const
type Mode = (typeof MODES)[number]

interface Options {
  times: number
  modes: Mode[]
  files: string[]
  seed: number
  /** Files that run beside one another, as in `npm test`. */
  concurrency: number
  /** When no further file is begun, on the clock of performance.now(). */
  end: number
}

interface Failure {
  mode: Mode
  run: number
  file: string
  tests: string[]
  output: string
}

/** A file that needs longer than this hangs, whatever the machine does beside. */
const FILE_TIMEOUT = 600_000

function optionsFrom(args: readonly string[]): Options {
  const text = (value: string) => ({ type: 'string', default: value }) as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      times: text('20'),
      mode: text(MODES.join()),
      files: text(''),
      seed: text(`${Date.now() % 1_000_000}`),
      concurrency: text(String(CONCURRENCY)),
      minutes: text('600'),
    },
  })
  const modes = values.mode.split(',').map(name => {
    const mode = MODES.find(known => known === name)
    if (!mode) throw new Error(`there are the modes ${MODES.join(', ')}, not ${name}`)
    if (mode === 'pinned' && !findProgram('taskset')) throw new Error('pinned needs the program taskset, of util-linux')
    return mode
  })
  return {
    times: Number(values.times),
    modes,
    files: filesNamed(values.files),
    seed: Number(values.seed),
    concurrency: Number(values.concurrency),
    end: performance.now() + Number(values.minutes) * 60_000,
  }
}

/** `client/recovery` is test/client/recovery.test.ts, `interop/php` test/interop/php.test.ts; none named: all of `npm test`. */
function filesNamed(names: string): string[] {
  if (names === '') return testFiles()
  const files = names.split(',').map(name => fileURLToPath(new URL(`./${name}.test.ts`, import.meta.url)))
  for (const file of files) if (!existsSync(file)) throw new Error(`there is no ${file}`)
  return files
}

/** A generator of whole numbers below `n`, the same for the same seed (mulberry32). */
function randomFrom(seed: number): (n: number) => number {
  let state = seed
  return n => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n
  }
}

function shuffled(files: readonly string[], seed: number): string[] {
  const random = randomFrom(seed)
  const order = [...files]
  for (let i = order.length - 1; i > 0; i--) {
    const j = random(i + 1)
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}

/** Ends with this process, even if that is killed. */
const SPINNER = 'const parent = process.ppid; while (process.ppid === parent) for (let i = 0; i < 1e7; i++);'

function startSpinners(): ChildProcess[] {
  return Array.from({ length: availableParallelism() }, () =>
    spawn(process.execPath, ['-e', SPINNER], { stdio: 'ignore' }),
  )
}

/** Runs one file; the tests in it that failed. Its output is left at `output`. */
async function failuresOf(file: string, mode: Mode, output: string): Promise<string[]> {
  const flags = ['--test', `--test-timeout=${FILE_TIMEOUT}`, '--test-reporter=spec', '--test-reporter-destination']
  const node = [process.execPath, '--import', 'tsx', ...flags, output, file]
  const [program, ...args] = mode === 'pinned' ? ['taskset', '-c', '0', ...node] : node
  const child = spawn(program!, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  if (code === 0) return []
  const failed = readFileSync(output, 'utf8').matchAll(/^test at .*\n✖ (.*) \([\d.]+ms\)/gm)
  const names = [...failed].map(([, name]) => name!)
  return names.length > 0 ? names : [`no test of it: the process ended with ${signal ?? code}`]
}

/** One run of all files in one mode; how many were run, since the time may be over before. */
async function runOnce(options: Options, mode: Mode, run: number, folder: string, failures: Failure[]) {
  const { files, seed, concurrency, end } = options
  const began = performance.now()
  const order = mode === 'shuffled' ? shuffled(files, seed + run) : files
  const waiting = order.values()
  let done = 0
  const work = async () => {
    for (const file of waiting) {
      if (performance.now() > end) return
      const output = join(folder, `${mode}-${run}-${testName(file).replaceAll('/', '-')}.txt`)
      const tests = await failuresOf(file, mode, output)
      done++
      if (tests.length === 0) rmSync(output)
      else failures.push(report({ mode, run, file, tests, output }))
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  if (done > 0) console.log(`${mode}, run ${run}: ${done} files in ${Math.round((performance.now() - began) / 1000)} s`)
  return done
}

/** A file whose beginning fails takes all its tests with it. */
const MOST_NAMES = 5

function report(failure: Failure): Failure {
  const { mode, run, file, tests, output } = failure
  const names = tests.slice(0, MOST_NAMES)
  if (tests.length > MOST_NAMES) names.push(`and ${tests.length - MOST_NAMES} more`)
  console.log(`failed: ${mode}, run ${run}, ${testName(file)}; its output: ${output}`)
  for (const name of names) console.log(`  ${name}`)
  return failure
}

/** Resolves to whether everything passed. */
export async function repeat(args: readonly string[]): Promise<boolean> {
  const options = optionsFrom(args)
  const folder = mkdtempSync(join(tmpdir(), 'push-repeat-'))
  const failures: Failure[] = []
  console.log(`${options.files.length} files, ${options.times} times in each mode; output of failures: ${folder}`)
  if (options.modes.includes('shuffled')) console.log(`order of the files: --seed ${options.seed}`)
  for (const mode of options.modes) {
    const before = failures.length
    const spinners = mode === 'busy' ? startSpinners() : []
    let done = 0
    try {
      for (let run = 1; run <= options.times; run++) done += await runOnce(options, mode, run, folder, failures)
    } finally {
      for (const spinner of spinners) spinner.kill('SIGKILL')
    }
    const wanted = options.times * options.files.length
    console.log(
      `${mode}: of ${wanted} files (each ${options.times} times) ${done} were run, ${failures.length - before} failed`,
    )
  }
  return failures.length === 0
}

import { chmodSync, cpSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { environmentOf, lastStep, readDockerfile, type Stage, type Step, wordsOf } from './dockerfile.ts'
import { type Cleanup, Program, run, temporaryFolder } from './processes.ts'
import { findProgram } from './programs.ts'
import { START } from './waiting.ts'

/** What came of a Dockerfile: a root file system, and how to run a program in it as a container would. */
export interface Image {
  readonly root: string
  readonly stage: Stage
  /** ENTRYPOINT and CMD. */
  readonly command: readonly string[]
  /** Runs until the test ends, with this environment and nothing else beside that of the image. */
  start(t: Cleanup, command: readonly string[], env?: Record<string, string>): Program
  /** Runs to its end. */
  run(command: readonly string[], env?: Record<string, string>): ReturnType<typeof run>
}

const isRoot = process.getuid?.() === 0

/** Mounts of its own; who is not root is given a user namespace, where it may do the same. */
const NAMESPACES = isRoot ? ['--mount'] : ['--mount', '--map-root-user']

/** As `docker run --read-only`: nobody can write to the root, not even its owner. The process stays one and the same. */
const ENTER = `root=$1 user=$2 workdir=$3; shift 3
  mount --bind "$root" "$root" && mount -o remount,ro,bind "$root" && mount --rbind /proc "$root/proc" &&
  exec chroot \${user:+--userspec="$user"} "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$workdir" "$@"`

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Does what a Dockerfile says, step by step, without Docker. The base image is this machine's Node, a shell and `rm`, with the
 * libraries that they need: nothing else of this machine is in there. `npm` runs outside, in the folder of its stage; everything
 * else inside, by chroot.
 */
export async function buildImage(t: Cleanup, context: string, isInContext: (name: string) => boolean): Promise<Image> {
  const stages = readDockerfile(join(context, 'Dockerfile'))
  const roots = new Map<string, string>()
  let root = ''
  for (const stage of stages) {
    root = temporaryFolder(t)
    if (stage.name) roots.set(stage.name, root)
    await buildBase(root)
    for (const step of stage.steps) await perform(step, { stage, root, roots, context, isInContext })
  }
  return imageOf(root, stages.at(-1)!)
}

interface Build {
  stage: Stage
  root: string
  roots: ReadonlyMap<string, string>
  context: string
  isInContext: (name: string) => boolean
}

/** What changes no file (ENV, USER, CMD…) counts when something is run. */
async function perform(step: Step, build: Build): Promise<void> {
  if (step.word === 'WORKDIR') mkdirSync(join(build.root, step.text), { recursive: true })
  else if (step.word === 'COPY') copy(step, build)
  else if (step.word === 'RUN') await runStep(step, build)
}

function copy(step: Step, { stage, root, roots, context, isInContext }: Build): void {
  const { flags, text } = step
  const words = text.split(/\s+/)
  const target = join(root, isAbsolute(words.at(-1)!) ? '' : workdirAt(step, stage), words.at(-1)!)
  const from = flags.from ? roots.get(flags.from) : context
  if (!from) throw new Error(`COPY --from=${flags.from}: there is no such stage`)
  for (const source of words.slice(0, -1)) {
    const names = source.startsWith('*') ? readdirSync(from).filter(name => name.endsWith(source.slice(1))) : [source]
    for (const name of names) {
      if (!flags.from && !isInContext(name)) throw new Error(`COPY ${name}: .dockerignore keeps it out`)
      const into = words.at(-1)!.endsWith('/') ? join(target, name) : target
      cpSync(join(from, name), into, { recursive: true, verbatimSymlinks: true })
    }
  }
}

/** WORKDIR counts for what stands below it. */
function workdirAt(step: Step, { steps }: Stage): string {
  return steps.slice(0, steps.indexOf(step)).findLast(({ word }) => word === 'WORKDIR')?.text ?? '/'
}

async function runStep(step: Step, { stage, root }: Build): Promise<void> {
  const { text } = step
  const cwd = workdirAt(step, stage)
  // Outside, a path would be one of this machine: only what names none may run there.
  const isOutside = /^npm [\w =-]+$/.test(text)
  const { code, stdout, stderr } = isOutside
    ? await run('sh', ['-c', text], { cwd: join(root, cwd) }, START)
    : await run('unshare', [...NAMESPACES, 'chroot', root, '/bin/sh', '-c', `cd ${cwd} && ${text}`], { env: { PATH } })
  if (code !== 0) throw new Error(`RUN ${text}: ${stdout}${stderr}`)
}

/** Node where the image has it, what the shell of a RUN needs, and what npm leaves behind in the base image. */
async function buildBase(root: string): Promise<void> {
  // A temporary folder is its owner's alone, and the user of the image is another.
  chmodSync(root, 0o755)
  for (const folder of ['tmp', 'etc', 'dev', 'proc']) mkdirSync(join(root, folder), { mode: 0o755 })
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n')
  await copyProgram(process.execPath, join(root, 'usr/local/bin/node'), root)
  for (const name of ['sh', 'rm']) await copyProgram(findProgram(name)!, join(root, 'bin', name), root)
  for (const name of ['lib/node_modules/npm/package.json', 'bin/npm', 'bin/npx']) place(join(root, 'usr/local', name))
}

function place(file: string): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, '')
}

async function copyProgram(program: string, target: string, root: string): Promise<void> {
  mkdirSync(dirname(target), { recursive: true })
  cpSync(realpathSync(program), target)
  const { stdout } = await run('ldd', [realpathSync(program)])
  for (const [library] of stdout.matchAll(/\/\S+(?= \(0x)/g)) {
    mkdirSync(join(root, dirname(library)), { recursive: true })
    cpSync(realpathSync(library), join(root, library))
  }
}

function imageOf(root: string, stage: Stage): Image {
  const own = { PATH, ...environmentOf(stage) }
  const workdir = lastStep(stage, 'WORKDIR').text
  // Who is not root cannot become anybody else, and is nobody's root in there.
  const user = isRoot ? lastStep(stage, 'USER').text : ''
  const inside = (command: readonly string[], env: Record<string, string>): string[] => {
    const variables = Object.entries({ ...own, ...env }).map(([name, value]) => `${name}=${value}`)
    return [...NAMESPACES, 'env', '-i', ...variables, '/bin/sh', '-c', ENTER, 'sh', root, user, workdir, ...command]
  }
  return {
    root,
    stage,
    command: [...wordsOf(lastStep(stage, 'ENTRYPOINT').text), ...wordsOf(lastStep(stage, 'CMD').text)],
    start: (t, command, env = {}) => new Program(t, 'unshare', inside(command, env), { stopWith: 'SIGTERM' }),
    run: (command, env = {}) => run('unshare', inside(command, env)),
  }
}

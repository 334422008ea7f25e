import { REDIS_FLAGS } from '../node/redis-environment.ts'
import { SERVE_FLAGS } from '../node/serve-settings.ts'
import { type Described, type Desk, EXIT, type FlagTable, type Given, type Task, UsageError } from './command.ts'

const PROGRAM = 'fastify-push-bridge'

interface Completed {
  about: string
  flags: FlagTable
}

type Completions = Readonly<Record<string, Completed>>

const SHELLS: Readonly<Record<string, (commands: Completions) => string>> = { bash, zsh, fish }

/** Every command with every flag that it takes: out of the tables that the commands are read with. */
export function completionsOf(commands: Readonly<Record<string, Described>>): Completions {
  const others = Object.entries(commands).map(([name, { about, flags }]) => {
    const all: FlagTable = { ...flags, json: { type: 'boolean' }, ...REDIS_FLAGS }
    return [name, { about, flags: all }] as const
  })
  return { serve: { about: 'serve WebSockets', flags: SERVE_FLAGS }, ...Object.fromEntries(others) }
}

const flagsOf = ({ flags }: Completed): string[] => Object.keys(flags).map(name => `--${name}`)

/** What follows stands in a command line: words of letters, digits and dashes, which no shell takes for anything else. */
function bash(commands: Completions): string {
  const cases = Object.entries(commands).map(([name, it]) => `    ${name}) words='${flagsOf(it).join(' ')}' ;;`)
  return `# bash: put it into ~/.bashrc as: source <(${PROGRAM} completion bash)
_fastify_push_bridge() {
  local words
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    *) words='' ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words='${Object.keys(commands).join(' ')} --help'; fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _fastify_push_bridge ${PROGRAM}
`
}

function zsh(commands: Completions): string {
  const names = Object.entries(commands).map(([name, { about }]) => `    '${name}:${quoted(about)}'`)
  const cases = Object.entries(commands).map(([name, it]) => `    ${name}) compadd -- ${flagsOf(it).join(' ')} ;;`)
  return `#compdef ${PROGRAM}
# zsh: write it to a file _${PROGRAM} in a folder of $fpath, or: source <(${PROGRAM} completion zsh)
_fastify_push_bridge() {
  local -a commands
  commands=(
${names.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "\${words[2]}" in
${cases.join('\n')}
  esac
  _files
}
compdef _fastify_push_bridge ${PROGRAM}
`
}

function fish(commands: Completions): string {
  const lines = Object.entries(commands).flatMap(([name, { about, flags }]) => [
    `complete -c ${PROGRAM} -n __fish_use_subcommand -f -a ${name} -d '${quoted(about)}'`,
    ...Object.entries(flags).map(
      ([flag, { type }]) =>
        `complete -c ${PROGRAM} -n '__fish_seen_subcommand_from ${name}' -l ${flag}${type === 'string' ? ' -r' : ''}`,
    ),
  ])
  return `# fish: write it to ~/.config/fish/completions/${PROGRAM}.fish\n${lines.join('\n')}\n`
}

/** Within single quotes, in one line and not too long to be read. */
function quoted(about: string): string {
  const short = about.split(/[:;]/)[0]!
  return short.replaceAll(/['\\\n]/g, ' ')
}

async function print({ args }: Given, { terminal, commands }: Desk): Promise<number> {
  const shell = Object.hasOwn(SHELLS, args[0]!) ? SHELLS[args[0]!] : undefined
  if (!shell) throw new UsageError(`"${args[0]}" is no shell that is known: ${Object.keys(SHELLS).join(', ')}`)
  terminal.out(shell(completionsOf(commands)))
  return EXIT.done
}

export const completion: Task = {
  usage: 'bash|zsh|fish',
  about: 'completion of commands and flags for a shell: source <(fastify-push-bridge completion bash)',
  flags: {},
  takes: [1, 1],
  needsRedis: false,
  perform: print,
}

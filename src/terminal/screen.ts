import type { Screen, Terminal } from './command.ts'

/** What may wait for who reads the output: more is memory for somebody who does not read. */
const MAX_WAITING = 16 * 1024 * 1024

/** A screen of its own, without a cursor: what was there comes back at the end. */
const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'

/** In raw mode Ctrl-C is a key like any other. */
const CTRL_C = '\u0003'

/**
 * The terminal of this process. To a command that asks for `ended`, Ctrl-C and SIGTERM are its own end; the second one is
 * that of the process. A reader that has gone (`| head`) ends the command as well.
 */
export function openTerminal(input: () => Promise<string>): Terminal {
  const end = new AbortController()
  let isHeard = false
  const hear = () => {
    if (!isHeard) process.once('SIGINT', () => end.abort()).once('SIGTERM', () => end.abort())
    isHeard = true
    return end.signal
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    end.abort()
    // Who has gone had enough; a full disk is a failure.
    if (error.code !== 'EPIPE') fail(error.message)
  })
  return {
    out(text) {
      if (end.signal.aborted) return
      process.stdout.write(text)
      if (process.stdout.writableLength <= MAX_WAITING) return
      end.abort()
      fail('nobody reads the output: it ends here')
    },
    err: text => void process.stderr.write(text),
    input,
    get ended() {
      return hear()
    },
    ...(process.stdout.isTTY && { screen: screenOf(end) }),
  }
}

function fail(problem: string): void {
  process.stderr.write(`${problem}\n`)
  process.exitCode = 1
}

function screenOf(end: AbortController): Screen {
  return {
    size: () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }),
    take(press) {
      const leave = () => void process.stdout.write(LEAVE)
      process.stdout.write(ENTER)
      // Whatever ends the process: the person goes on in this terminal.
      process.once('exit', leave)
      const release = listen(key => (key.includes(CTRL_C) ? end.abort() : press(key)))
      return () => {
        release()
        process.off('exit', leave)
        leave()
      }
    },
  }
}

function listen(press: (key: string) => void): () => void {
  const { stdin } = process
  if (!stdin.isTTY) return () => {}
  const pressed = (key: Buffer) => press(String(key))
  stdin.setRawMode(true).resume().on('data', pressed)
  return () => void stdin.off('data', pressed).setRawMode(false).pause()
}

import type { Screen, Terminal } from './command.ts'

/** What may wait for who reads the output: more is memory for somebody who does not read. */
const MAX_WAITING = 16 * 1024 * 1024

/** The terminal of this process. Ctrl-C, SIGTERM and a reader that has gone (`| head`) end a command, not the process. */
export function openTerminal(input: () => Promise<string>): Terminal {
  const end = new AbortController()
  process.once('SIGINT', () => end.abort()).once('SIGTERM', () => end.abort())
  process.stdout.on('error', () => end.abort())
  return {
    out(text) {
      if (end.signal.aborted) return
      process.stdout.write(text)
      if (process.stdout.writableLength <= MAX_WAITING) return
      process.stderr.write('nobody reads the output: it ends here\n')
      process.exitCode = 1
      end.abort()
    },
    err: text => void process.stderr.write(text),
    input,
    ended: end.signal,
    ...(process.stdout.isTTY && { screen: screenOf(end) }),
  }
}

function screenOf(end: AbortController): Screen {
  return {
    size: () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }),
    keys(press) {
      const { stdin } = process
      if (!stdin.isTTY) return () => {}
      // In raw mode Ctrl-C is a key like any other.
      const pressed = (key: Buffer) => (String(key).includes('\u0003') ? end.abort() : press(String(key)))
      stdin.setRawMode(true).resume().on('data', pressed)
      return () => void stdin.off('data', pressed).setRawMode(false).pause()
    },
  }
}

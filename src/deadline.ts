interface Patience {
  /** Whether it is not the fault of who is waited for. */
  unless(): boolean
  /** It is asked before each further time of the same length; so many there may be in all. */
  times: number
}

const NO_PATIENCE: Patience = { unless: () => false, times: 1 }

/** What `result` resolves with; undefined when it does not in time, or rejects. */
export function within<T>(
  milliseconds: number,
  result: Promise<T>,
  { unless, times }: Patience = NO_PATIENCE,
): Promise<T | undefined> {
  return new Promise(resolve => {
    let timer: NodeJS.Timeout
    let isSettled = false
    const settle = (value: T | undefined) => {
      isSettled = true
      clearTimeout(timer)
      resolve(value)
    }
    const wait = (left: number) => {
      const look = () => {
        if (isSettled) return
        if (left > 1 && unless()) wait(left - 1)
        else settle(undefined)
      }
      // After the poll phase: a process that was busy itself finds the answer there.
      timer = setTimeout(() => setImmediate(look), milliseconds)
    }
    wait(times)
    result.then(settle, () => settle(undefined))
  })
}

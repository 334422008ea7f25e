/** What `result` resolves with; undefined when it does not in time, or rejects. */
export function within<T>(milliseconds: number, result: Promise<T>): Promise<T | undefined> {
  return new Promise(resolve => {
    const settle = (value: T | undefined) => {
      clearTimeout(timer)
      resolve(value)
    }
    const timer = setTimeout(resolve, milliseconds, undefined)
    result.then(settle, () => settle(undefined))
  })
}

/** What `result` resolves with; undefined when it does not in time, or rejects. */
export async function within<T>(milliseconds: number, result: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>(resolve => {
    timer = setTimeout(() => resolve(undefined), milliseconds)
  })
  const value = await Promise.race([result.catch(() => undefined), late])
  clearTimeout(timer)
  return value
}

const WAKING = ['online', 'pageshow']

/** `url` as a WebSocket accepts it. A relative URL is resolved against the page. */
export function resolveUrl(url: string | URL): URL {
  const resolved = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href)
  resolved.protocol = resolved.protocol.replace(/^http/, 'ws')
  // A WebSocket URL must not have a fragment.
  resolved.hash = ''
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not ws, wss, http or https: ${resolved.protocol}`)
  return resolved
}

/** Calls `leave` when the page may be about to end: phones end hidden pages without another word. */
export function watchLeaving(leave: () => void): () => void {
  const { document } = globalThis
  const hidden = () => document.visibilityState === 'hidden' && leave()
  const page = (globalThis.addEventListener as unknown) ? globalThis : undefined
  document?.addEventListener('visibilitychange', hidden)
  page?.addEventListener('pagehide', leave)
  return () => {
    document?.removeEventListener('visibilitychange', hidden)
    page?.removeEventListener('pagehide', leave)
  }
}

/**
 * Calls `wake` when a connection may have ended while the page slept. Workers have no `document`; Node has no
 * `addEventListener` either.
 */
export function watchPage(wake: () => void): () => void {
  const { document } = globalThis
  const visible = () => document.visibilityState === 'visible' && wake()
  const page = (globalThis.addEventListener as unknown) ? globalThis : undefined
  document?.addEventListener('visibilitychange', visible)
  for (const event of WAKING) page?.addEventListener(event, wake)
  return () => {
    document?.removeEventListener('visibilitychange', visible)
    for (const event of WAKING) page?.removeEventListener(event, wake)
  }
}

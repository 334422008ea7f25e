import { ClientError, type Handlers } from './handlers.ts'
import type { ClientOptions, ClientState, KeptPositions, PositionStore } from './options.ts'
import { watchLeaving } from './page.ts'
import { Positions } from './positions.ts'

// A busy topic moves a hundred times a second, and each write to sessionStorage holds up the page.
const SAVE_AFTER = 1000
const MAX_KEPT = 200
/** Ids of a node are far shorter: a longer one is not from a node. */
const MAX_ID_LENGTH = 200
const RECORDED = /^(all|(channel|user):\S{1,200})$/

/** The positions of a client: those that were kept, if the option `positions` says so, then those of `since`. */
export function keptPositions(
  url: URL,
  { positions, since }: Pick<ClientOptions, 'positions' | 'since'>,
  handlers: Handlers,
): Positions {
  if (positions === undefined) return new Positions(since)
  return new Keeper(positions === 'session' ? sessionStore(url) : positions, since, handlers).positions
}

/**
 * Without the query of the URL, which may have a ticket: other scripts of the page can read it. The positions themselves
 * are no secret. An id says nothing of a message, and a node asks for every topic whether this connection may hear it.
 */
function sessionStore(url: URL): PositionStore {
  const key = `push-positions ${url.origin}${url.pathname}`
  if (!('sessionStorage' in globalThis)) {
    throw new TypeError("positions: 'session' needs sessionStorage: elsewhere, pass { load, save }")
  }
  return {
    load: () => JSON.parse(sessionStorage.getItem(key) ?? 'null'),
    save: kept => sessionStorage.setItem(key, JSON.stringify(kept)),
  }
}

class Keeper {
  readonly positions: Positions
  private store: PositionStore
  private handlers: Handlers
  private timer: ReturnType<typeof setTimeout> | undefined
  private hasFailed = false

  constructor(store: PositionStore, since: ClientOptions['since'], handlers: Handlers) {
    this.store = store
    this.handlers = handlers
    const { user, positions } = this.load()
    this.positions = new Positions(since, { kept: positions, owner: user, moved: () => this.saveSoon() })
    const stop = watchLeaving(() => this.flush())
    handlers.add('event state', ({ state }: { state: ClientState }) => {
      if (state !== 'closed') return
      stop()
      this.flush()
    })
  }

  /** Whatever was kept: somebody else may have written there. */
  private load(): KeptPositions {
    try {
      const { user, positions } = Object(this.store.load())
      const usable = Object.entries(Object(positions)).filter(isPosition).slice(0, MAX_KEPT)
      const owner = typeof user === 'string' || user === null ? { user } : {}
      return { ...owner, positions: Object.fromEntries(usable) }
    } catch (cause) {
      // Whoever made the client can listen by then.
      Promise.resolve().then(() => this.failed('loaded', cause))
      return { positions: {} }
    }
  }

  private saveSoon(): void {
    this.timer ??= setTimeout(() => this.flush(), SAVE_AFTER)
  }

  private flush(): void {
    if (this.timer === undefined) return
    clearTimeout(this.timer)
    this.timer = undefined
    const { user, ids } = this.positions
    const positions = Object.fromEntries(Object.entries(ids).slice(0, MAX_KEPT))
    try {
      this.store.save({ ...(user !== undefined && { user }), positions })
      this.hasFailed = false
    } catch (cause) {
      this.failed('saved', cause)
    }
  }

  /** Once: a storage that is full stays full. */
  private failed(what: string, cause: unknown): void {
    if (this.hasFailed) return
    this.hasFailed = true
    this.handlers.report(new ClientError('POSITIONS', `the positions could not be ${what}`, cause))
  }
}

function isPosition(entry: [topic: string, id: unknown]): entry is [string, string] {
  const [topic, id] = entry
  return RECORDED.test(topic) && typeof id === 'string' && id.length <= MAX_ID_LENGTH
}

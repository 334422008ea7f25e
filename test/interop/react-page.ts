/** The page of react.test.ts: bundled, run by a browser. With `?blocked` it is in a network that lets no WebSocket through. */
import { createElement as h, lazy, type ReactNode, StrictMode, Suspense, useState } from 'react'
import { createRoot } from 'react-dom/client'
import {
  PushProvider,
  useChannel,
  useClient,
  useClientState,
  useMessages,
  usePresence,
} from '../../src/client/react/index.ts'

const ROOM = 'channel:room'
const isBlocked = location.search === '?blocked'

declare global {
  interface Window {
    /** Lets the suspended part of the page come. */
    arrive(): void
    heard: string[]
  }
}

window.heard = []
const arrival = new Promise<void>(resolve => {
  window.arrive = resolve
})

/** Browsers connect to no such port. */
class Blocked extends WebSocket {
  constructor() {
    super('ws://127.0.0.1:9/blocked')
  }
}

function Messages(): ReactNode {
  const { messages, state, error } = useMessages(ROOM, { limit: 3 })
  const texts = messages.map(({ payload }) => (payload as { text: string }).text)
  return h('p', { id: 'messages', 'data-state': state }, `messages: ${texts.join(',')} ${error?.code ?? ''}`)
}

/** Its handler is a new one at each render. */
function Listener(): ReactNode {
  const [label, setLabel] = useState('old')
  useChannel(ROOM, { note: payload => window.heard.push(`${label} ${(payload as { text: string }).text}`) })
  return h('button', { type: 'button', id: 'label', onClick: () => setLabel('new') }, label)
}

function People(): ReactNode {
  const { members, isKnown } = usePresence(ROOM)
  const users = members.map(({ user }) => user).sort()
  return h('p', { id: 'people', 'data-known': isKnown }, `people: ${users.join(',')}`)
}

/** It stays: whoever comes anew asks again, and over an event stream that is another stream. */
function Refused(): ReactNode {
  const { state, error } = useChannel('nonsense')
  return h('p', { id: 'refused' }, `${state} ${error?.code ?? ''}`)
}

function Room(): ReactNode {
  const [isHeard, hear] = useState(true)
  return [
    ...[Messages, People].map(Part => h(Part, { key: Part.name })),
    isHeard && h(Listener, { key: 'Listener' }),
    h('button', { type: 'button', id: 'mute', key: 'mute', onClick: () => hear(false) }, 'mute'),
  ]
}

const LateRoom = lazy(() => arrival.then(() => ({ default: Room })))

function State(): ReactNode {
  const { state } = useClientState()
  const client = useClient()
  const [who, setWho] = useState('')
  const ask = () => client!.request<{ ip: string }>('whoami', {}, { queue: true }).then(({ ip }) => setWho(ip))
  return h(
    'p',
    { id: 'state', 'data-state': state },
    h('button', { type: 'button', id: 'ask', onClick: ask }, 'ask'),
    `${who}`,
  )
}

function Page(): ReactNode {
  const [visit, setVisit] = useState(1)
  const [isShown, show] = useState(true)
  return h(
    PushProvider,
    {
      url: '/ws?user=ann',
      options: { positions: 'session', ...(isBlocked && { fallback: true, WebSocket: Blocked }) },
    },
    h(State),
    h(Refused),
    h('button', { type: 'button', id: 'again', onClick: () => setVisit(visit + 1) }, `visit ${visit}`),
    h('button', { type: 'button', id: 'hide', onClick: () => show(!isShown) }, isShown ? 'hide' : 'show'),
    isShown && h(Suspense, { key: visit, fallback: h('p', { id: 'fallback' }, 'loading') }, h(LateRoom)),
  )
}

createRoot(document.body.appendChild(document.createElement('main'))).render(h(StrictMode, null, h(Page)))

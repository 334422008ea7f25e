import { connect } from './ws/client.js'

const ROOMS = ['lobby', 'kitchen', 'garden']
const NEWEST = 50
const SHOWN = 200
/** Somebody who has not typed for this long has stopped. */
const TYPING = 3000

const $ = id => document.getElementById(id)
const name = new URLSearchParams(location.search).get('name') || prompt('Your name?') || 'guest'
const client = connect(`/ws?name=${encodeURIComponent(name)}`)
const typing = new Map()
let room
let stopListening = () => {}
let typedAt = Number.NEGATIVE_INFINITY

$('me').textContent = name
client.listen('state', ({ state }) => {
  $('state').textContent = { open: 'Connected', closed: 'Closed' }[state] ?? 'Connecting'
  $('state').dataset.state = state
  $('form').querySelector('button').disabled = state !== 'open'
})
client.listen('gap', ({ topics }) => topics.includes(topicOf(room)) && show('Messages may be missing here', 'notice'))
client.listen('error', ({ message }) => show(message, 'notice'))
client.on('chat.message', ({ text }, { topic, from }) => {
  if (topic !== topicOf(room)) return
  stopTyping(from.user)
  show(text, 'message', from.user)
})
client.on('chat.typing', (_payload, { topic, from }) => {
  if (topic !== `channel:typing.${room}`) return
  clearTimeout(typing.get(from.user))
  typing.set(from.user, setTimeout(stopTyping, TYPING, from.user))
  showTyping()
})

const topicOf = room => `channel:room.${room}`

function enter(next) {
  if (next === room) return
  if (room) {
    client.unsubscribe(topicOf(room))
    client.unsubscribe(`channel:typing.${room}`)
  }
  stopListening()
  room = next
  for (const user of typing.keys()) stopTyping(user)
  $('log').replaceChildren()
  for (const button of $('rooms').querySelectorAll('button')) button.ariaCurrent = String(button.value === room)
  client.subscribe(topicOf(room), { last: NEWEST }).catch(() => {})
  client.subscribe(`channel:typing.${room}`).catch(() => {})
  const roster = client.presence(topicOf(room))
  stopListening = roster.listen(({ joined, left }) => {
    showMembers(roster)
    for (const { user } of left) show(`${user} has left`, 'notice')
    if (joined.length < 5) for (const { user } of joined) show(`${user} is here`, 'notice')
  })
  showMembers(roster)
}

function showMembers({ members, count }) {
  $('count').textContent = count
  const names = members.map(({ user }) => user).sort()
  $('members').replaceChildren(...names.map(user => Object.assign(document.createElement('li'), { textContent: user })))
}

function show(text, kind, user) {
  const log = $('log')
  const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40
  const line = document.createElement('li')
  line.className = kind
  if (user) line.append(Object.assign(document.createElement('b'), { textContent: user }))
  line.append(text)
  log.append(line)
  while (log.children.length > SHOWN) log.firstChild.remove()
  if (isAtEnd) log.scrollTop = log.scrollHeight
}

function stopTyping(user) {
  clearTimeout(typing.get(user))
  typing.delete(user)
  showTyping()
}

function showTyping() {
  const names = [...typing.keys()]
  $('typing').textContent = names.length === 0 ? '' : `${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} typing`
}

$('rooms').append(
  ...ROOMS.map(room => {
    const item = document.createElement('li')
    const button = Object.assign(document.createElement('button'), { type: 'button', value: room, textContent: room })
    button.addEventListener('click', () => enter(room))
    item.append(button)
    return item
  }),
)

$('text').addEventListener('input', () => {
  if (!$('text').value || performance.now() - typedAt < TYPING / 2) return
  typedAt = performance.now()
  client.publish(`channel:typing.${room}`, 'chat.typing', {}, { echo: false }).catch(() => {})
})

$('form').addEventListener('submit', async event => {
  event.preventDefault()
  const text = $('text').value.trim()
  if (!text) return
  // With a key a message that was sent twice, because the answer was lost, appears once.
  const key = crypto.randomUUID()
  $('text').value = ''
  typedAt = Number.NEGATIVE_INFINITY
  try {
    await client.publish(topicOf(room), 'chat.message', { text }, { key })
  } catch (error) {
    $('text').value = text
    show(`Not sent: ${error.message}`, 'notice')
  }
})

enter(ROOMS.includes(location.hash.slice(1)) ? location.hash.slice(1) : ROOMS[0])

<?php

/**
 * A chat with rooms and who is there, whose decisions are all in PHP: who comes in, which rooms there are, what may be said.
 * The sockets are held by `serve`. Behind nginx, `/ws` goes to `serve` and the rest to PHP.
 *
 *   BACKEND_SECRET=a-long-random-secret REDIS_HOST=127.0.0.1 php -S 127.0.0.1:8080 chat.php
 *
 *   REDIS_URL=redis://127.0.0.1:6379 PRESENCE='{"channel:room.*":{"info":true}}' \
 *   BACKEND_URL=http://127.0.0.1:8080/calls BACKEND_SECRET=a-long-random-secret BACKEND_CALLS=connect,subscribe \
 *   BACKEND_HEADERS=cookie BACKEND_MESSAGES='chat.*' npx fastify-push-bridge serve
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    exit("chat.php needs the PHP extension redis: apt install php-redis, or pecl install redis\n");
}

const ROOMS = ['lobby', 'kitchen'];

/** Whether a node wrote this body, and just now. */
function isSigned(string $header, string $body, string $secret): bool
{
    if (!preg_match('/t=(\d{1,12}),/', $header, $time) || abs(time() - (int) $time[1]) > 300) {
        return false;
    }
    $expected = hash_hmac('sha256', "$time[1].$body", $secret);
    preg_match_all('/v1=([0-9a-f]{64})/', $header, $signatures);
    return (bool) array_filter($signatures[1], fn ($signature) => hash_equals($expected, $signature));
}

function answer(mixed $body, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($body, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
    exit;
}

/** To everybody in the room, and kept for whoever comes later or was away: the newest 200, for a day. */
function publish(string $room, string $type, array $payload): void
{
    $redis = new Redis();
    $redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379));
    $envelope = json_encode(['type' => $type, 'payload' => $payload], JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
    $redis->rawCommand('FCALL', 'push_publish', 1, "push:channel:room.$room", $envelope, 200, 86400);
}

/** In a real chat: look the session up by its cookie. */
function userIn(string $cookies): ?string
{
    return preg_match('/(?:^|; )name=([\w-]{1,40})/', $cookies, $name) ? $name[1] : null;
}

function roomOf(string $topic): ?string
{
    $room = str_starts_with($topic, 'channel:room.') ? substr($topic, strlen('channel:room.')) : '';
    return in_array($room, ROOMS, true) ? $room : null;
}

function decide(array $call): never
{
    switch ($call['kind']) {
        case 'connect':
            $user = userIn($call['headers']['cookie'] ?? '');
            $user === null ? answer(['message' => 'log in first'], 401) : answer(['user' => $user, 'info' => ['name' => $user]]);
        case 'subscribe':
            roomOf($call['topic']) === null
                ? answer(['message' => 'there is no such room'], 403)
                : answer(['actions' => ['subscribe', 'presence', 'history']]);
        case 'message':
            $text = trim((string) ($call['payload']['text'] ?? ''));
            $room = roomOf('channel:room.' . ($call['payload']['room'] ?? ''));
            if ($call['type'] !== 'chat.say' || $room === null || $text === '' || strlen($text) > 8000) {
                answer(['code' => 'CHAT_REFUSED', 'message' => 'say something of up to 8,000 bytes, in a room'], 422);
            }
            publish($room, 'chat.message', ['user' => $call['user'], 'text' => $text]);
            answer(['room' => $room]);
        default:
            answer(['message' => "unknown kind {$call['kind']}"], 404);
    }
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/calls') {
    $body = file_get_contents('php://input');
    if (!isSigned($_SERVER['HTTP_PUSH_SIGNATURE'] ?? '', $body, getenv('BACKEND_SECRET') ?: exit('BACKEND_SECRET is not set'))) {
        answer(['message' => 'the signature is wrong or too old'], 500);
    }
    decide(json_decode($body, true, flags: JSON_THROW_ON_ERROR));
}
if (isset($_GET['name']) && preg_match('/^[\w-]{1,40}$/', $_GET['name'])) {
    setcookie('name', $_GET['name'], ['httponly' => true, 'samesite' => 'Lax']);
}
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Chat in PHP</title>
<style>
  :root { color-scheme: light dark } body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif }
  form { display: flex; gap: .5rem } input { flex: 1; font: inherit } li b { margin-right: .5rem }
</style>
<h1>Chat</h1>
<form action="/"><label>Your name <input name="name" required pattern="[\w\-]{1,40}"></label><button>Come in</button></form>
<p id="state" role="status">connecting</p>
<p>Here: <span id="members"></span></p>
<ol id="log"></ol>
<form id="say"><input name="text" aria-label="Message" autocomplete="off" maxlength="2000"><button>Send</button></form>
<script type="module">
  import { connect } from '/ws/client.js'
  const $ = id => document.getElementById(id)
  const room = location.hash.slice(1) || 'lobby'
  const topic = `channel:room.${room}`
  const client = connect('/ws')
  const show = (...parts) => {
    const line = document.createElement('li')
    line.append(...parts)
    $('log').append(line)
  }
  client.listen('state', ({ state, reason }) => { $('state').textContent = state === 'closed' ? reason : state })
  client.listen('gap', () => show('messages may be missing here'))
  client.listen('error', ({ message }) => show(message))
  client.on('chat.message', ({ user, text }) => show(Object.assign(document.createElement('b'), { textContent: user }), text))
  client.subscribe(topic, { last: 50 }).catch(() => {})
  const roster = client.presence(topic)
  roster.listen(() => { $('members').textContent = roster.members.map(({ user }) => user).sort().join(', ') })
  $('say').addEventListener('submit', async event => {
    event.preventDefault()
    const { text } = event.target.elements
    try {
      await client.request('chat.say', { room, text: text.value })
      text.value = ''
    } catch (error) { show(error.message) }
  })
</script>
</html>

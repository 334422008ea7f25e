<?php

/**
 * Decides for the nodes over HTTP: who connects, who may subscribe, what is the answer to a message; and hears what happens.
 *
 *   BACKEND_SECRET=a-long-random-secret php -S 127.0.0.1:8080 backend.php
 *
 *   REDIS_URL=redis://127.0.0.1:6379 BACKEND_URL=http://127.0.0.1:8080/ BACKEND_SECRET=a-long-random-secret \
 *   BACKEND_CALLS=connect,subscribe BACKEND_HEADERS=cookie BACKEND_MESSAGES='chat.*' BACKEND_EVENTS=connect,disconnect \
 *   npx fastify-push-bridge serve
 *
 * In an application, `events: { http: { url, secret, connect: true, headers: ['cookie'], subscribe: true, message: ['chat.*'] } }`.
 */

declare(strict_types=1);

/** Whether a node wrote this body, and just now: an old call that somebody repeats has an old time in it. */
function isSigned(string $header, string $body, array $secrets, int $tolerance = 300): bool
{
    if (!preg_match('/(?:^|,)t=(\d{1,12})(?:,|$)/', $header, $time) || abs(time() - (int) $time[1]) > $tolerance) {
        return false;
    }
    preg_match_all('/(?:^|,)v1=([0-9a-f]{64})(?=,|$)/', $header, $signatures);
    foreach ($secrets as $secret) {
        $expected = hash_hmac('sha256', "$time[1].$body", $secret);
        foreach ($signatures[1] as $signature) {
            if (hash_equals($expected, $signature)) {
                return true;
            }
        }
    }
    return false;
}

function answer(mixed $body, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($body, JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR);
    exit;
}

$body = file_get_contents('php://input');
$secrets = array_filter(explode(',', getenv('BACKEND_SECRET') ?: ''));   // two while one is replaced by the other
if (!isSigned($_SERVER['HTTP_PUSH_SIGNATURE'] ?? '', $body, $secrets)) {
    // Not 401: that would tell the client that it is not logged in, and it would stay away.
    answer(['message' => 'the signature is wrong or too old'], 500);
}
$call = json_decode($body, true);
if ($call === null) {
    // PHP does not take all that JavaScript takes for JSON, such as "\ud800". Events that get a 500 would come again for ever.
    answer(['code' => 'UNREADABLE', 'message' => 'PHP cannot read this JSON'], 422);
}

switch ($call['kind']) {
    case 'connect':
        // In a real page: look the session up by its cookie.
        if (!preg_match('/(?:^|; )session=(\w+)/', $call['headers']['cookie'] ?? '', $session)) {
            answer(['message' => 'log in first'], 401);
        }
        answer(['user' => $session[1], 'join' => ['channel:news'], 'data' => ['since' => $call['time']]]);

    case 'subscribe':
        $mayHear = str_starts_with($call['topic'], 'channel:room.') && $call['user'] !== 'guest';
        $mayHear ? answer(['actions' => ['subscribe']]) : answer(['message' => 'not your room'], 403);

    case 'message':
        $text = trim((string) ($call['payload']['text'] ?? ''));
        if ($text === '') {
            answer(['code' => 'CHAT_EMPTY', 'message' => 'say something'], 422);
        }
        answer(['said' => $text, 'by' => $call['user']]);

    case 'events':
        // At least once and in order: an id that has been here already is a repeat.
        foreach ($call['events'] as $event) {
            file_put_contents(getenv('EVENTS_FILE') ?: '/dev/null', "{$event['id']} {$event['kind']} {$event['user']}\n", FILE_APPEND | LOCK_EX);
        }
        answer(null);

    default:
        answer(['message' => "unknown kind {$call['kind']}"], 404);
}

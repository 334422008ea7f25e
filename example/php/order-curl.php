<?php

/**
 * The same over HTTP, for machines that do not reach Redis:
 *
 *   PUSH_URL=http://127.0.0.1:3000/push PUSH_API_KEY=… php order-curl.php 42 1001
 *
 * Uses the extension curl, and PHP's own streams (allow_url_fopen) where it is missing.
 */

declare(strict_types=1);

function push(string $to, string $type, array|object $payload, array $options = []): array
{
    $body = ['to' => $to, 'type' => $type, 'payload' => $payload] + $options;
    [$status, $text] = post(
        getenv('PUSH_URL') ?: 'http://127.0.0.1:3000/push',
        ['Content-Type: application/json', 'Authorization: Bearer ' . getenv('PUSH_API_KEY')],
        json_encode($body, JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR),
    );
    $answer = json_decode($text, true);
    if ($status !== 200) {
        // 400 the message is wrong · 401 the key is · 413 too large · 503 Redis is away: `code` and `message` say more.
        $reason = trim(($answer['code'] ?? '') . ' ' . ($answer['message'] ?? substr($text, 0, 200)));
        throw new RuntimeException("the push API answered $status: $reason");
    }
    return $answer;
}

/** Status and body of the answer. The node answers within its publishTimeout of 2 s. */
function post(string $url, array $headers, string $body): array
{
    if (!function_exists('curl_init')) {
        return postByStream($url, $headers, $body);
    }
    $curl = curl_init($url);
    curl_setopt_array($curl, [
        CURLOPT_POST => true,
        CURLOPT_POSTFIELDS => $body,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 2,
        CURLOPT_TIMEOUT => 5,
    ]);
    $text = curl_exec($curl);
    if ($text === false) {
        throw new RuntimeException('the push API cannot be reached: ' . curl_error($curl));
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $text];
}

function postByStream(string $url, array $headers, string $body): array
{
    $http = ['method' => 'POST', 'header' => $headers, 'content' => $body, 'timeout' => 5];
    // Without ignore_errors an answer such as 401 would be a failure without its text.
    $http += ['ignore_errors' => true, 'follow_location' => 0];
    $stream = @fopen($url, 'r', false, stream_context_create(['http' => $http]));
    if ($stream === false) {
        throw new RuntimeException('the push API cannot be reached: ' . (error_get_last()['message'] ?? ''));
    }
    [$statusLine] = stream_get_meta_data($stream)['wrapper_data'];
    return [(int) explode(' ', $statusLine)[1], (string) stream_get_contents($stream)];
}

$customer = $argv[1] ?? '42';
$type = $argv[3] ?? 'order.created';

try {
    $done = push("user:$customer", $type, ['id' => (int) ($argv[2] ?? 1001), 'options' => (object) []], ['receipt' => true]);
    echo "delivered to {$done['delivered']} connection(s) on {$done['nodes']} node(s)\n";
} catch (RuntimeException $problem) {
    fwrite(STDERR, $problem->getMessage() . "\n");
    exit(1);
}

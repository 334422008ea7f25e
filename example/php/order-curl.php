<?php

/**
 * The same over HTTP, for machines that do not reach Redis:
 *
 *   PUSH_URL=http://127.0.0.1:3000/push PUSH_API_KEY=… php order-curl.php 42 1001
 *
 * Needs the extension curl.
 */

declare(strict_types=1);

function push(string $to, string $type, array|object $payload, array $options = []): array
{
    $body = ['to' => $to, 'type' => $type, 'payload' => $payload] + $options;
    $curl = curl_init(getenv('PUSH_URL') ?: 'http://127.0.0.1:3000/push');
    curl_setopt_array($curl, [
        CURLOPT_POST => true,
        CURLOPT_POSTFIELDS => json_encode(
            $body,
            JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR,
        ),
        CURLOPT_HTTPHEADER => ['Content-Type: application/json', 'Authorization: Bearer ' . getenv('PUSH_API_KEY')],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 2,
        CURLOPT_TIMEOUT => 5,   // the node answers within its publishTimeout of 2 s
    ]);
    $text = curl_exec($curl);
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($text === false) {
        throw new RuntimeException('the push API cannot be reached: ' . curl_error($curl));
    }
    $answer = json_decode($text, true);
    if ($status !== 200) {
        // 400 the message is wrong · 401 the key is · 413 too large · 503 Redis is away: `code` and `message` say more.
        $reason = trim(($answer['code'] ?? '') . ' ' . ($answer['message'] ?? substr($text, 0, 200)));
        throw new RuntimeException("the push API answered $status: $reason");
    }
    return $answer;
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

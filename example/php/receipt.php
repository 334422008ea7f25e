<?php

/**
 * Publishes and asks what became of it: every node that got the envelope answers in a list of its own.
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php receipt.php user:42 notice '{"text":"hello"}'
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

[$topic, $type, $payload] = array_slice($argv, 1) + ['user:42', 'notice', '{"text":"hello"}'];

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);

$token = bin2hex(random_bytes(16));
$envelope = [
    'type' => $type,
    'payload' => json_decode($payload, flags: JSON_THROW_ON_ERROR),   // objects stay objects, {} stays {}
    'receipt' => $token,
];
$json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
$nodes = $redis->publish("push:$topic", json_encode($envelope, $json));

if ($nodes === 0) {
    echo "0 nodes: nobody listens to $topic now (", $redis->pubsub('numsub', ['push:nodes'])['push:nodes'], " node(s) live)\n";
    exit(0);
}

$delivered = $skipped = $answers = 0;
$rejected = [];
// As many answers as PUBLISH counted nodes. A node answers within milliseconds; one that died meanwhile never does.
while ($answers < $nodes && ($item = $redis->blPop(["push:receipt:$token"], 2))) {
    $answer = json_decode($item[1], true, flags: JSON_THROW_ON_ERROR);
    $answers++;
    $delivered += $answer['delivered'];
    $skipped += $answer['skipped'];
    if (isset($answer['rejected'])) {
        $rejected[] = "{$answer['node']}: {$answer['rejected']['reason']}: {$answer['rejected']['message']}";
    }
}

echo "delivered $delivered, skipped $skipped, $answers of $nodes node(s) answered\n";
foreach ($rejected as $reason) {
    echo "rejected by $reason\n";
}
exit($rejected || $answers < $nodes ? 1 : 0);

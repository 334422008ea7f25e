<?php

/**
 * An order that no page of the customer may miss: the newest ones are kept, and whoever was away gets them when it is back.
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php recorded.php 42 1001
 *
 * Needs Redis 7 or later, or Valkey, to which a node has been connected once: it loads the function push_publish.
 * A newer phpredis has fcall(); rawCommand() works with every one, and no prefix of the client is added.
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

$customer = $argv[1] ?? '42';
$order = (int) ($argv[2] ?? 1001);
$type = $argv[3] ?? 'order.created';

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);

$json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
$envelope = json_encode(['type' => $type, 'payload' => ['id' => $order]], $json);

try {
    // The newest 100 orders of a customer, for an hour. The key names this order: run it twice, and it is there once.
    $answer = $redis->rawCommand('FCALL', 'push_publish', 1, "push:user:$customer", $envelope, 100, 3600, "order-$order");
} catch (RedisException $problem) {
    // Nothing was recorded, and the first word says why; without an answer at all, run it again with the same key.
    fwrite(STDERR, $problem->getMessage() . "\n");
    exit(1);
}
[$id, $seq, $nodes, $duplicate] = $answer;
echo "order $order: number $seq for customer $customer, $nodes node(s)", $duplicate ? ', recorded before' : '', "\n";

<?php

/**
 * A customer has ordered, and every page that this customer has open hears of it at once:
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php order.php 42 1001 "two pizzas"
 *
 * Needs the extension redis (phpredis).
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

$customer = $argv[1] ?? '42';
$order = [
    'id' => (int) ($argv[2] ?? 1001),
    'note' => $argv[3] ?? 'two pizzas',
    'options' => (object) [],   // an empty array would become [], and the page expects an object
];

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);

// Bytes that are no UTF-8 become U+FFFD, and whatever else cannot be written as JSON is an exception, not `false`.
$json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
$nodes = $redis->publish("push:user:$customer", json_encode(['type' => 'order.created', 'payload' => $order], $json));

echo "order {$order['id']}: $nodes node(s) have customer $customer online\n";

<?php

/**
 * PHP knows who is logged in, the node does not: PHP writes a ticket, the page shows it to the node.
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php ticket.php 42 channel:orders
 *
 * The node needs the option `tickets: true`, and the page:
 *
 *   connect('/ws', { ticket: async () => (await fetch('/ticket.php')).text() })
 *
 * A ticket is good for one connection within 30 seconds, so it may stand in a URL. The page asks for a new one at every
 * attempt. Unlike a channel, a key belongs to a database: the node's Redis URL and this script must name the same one.
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

$user = $argv[1] ?? '42';              // in a real page: $_SESSION['user']
$allow = array_slice($argv, 2);        // what this connection may subscribe to, patterns such as channel:x.* included

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);

$ticket = bin2hex(random_bytes(24));
$json = JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR;
$redis->set("push:ticket:$ticket", json_encode(['user' => $user, 'allow' => $allow], $json), ['nx', 'ex' => 30]);

echo $ticket;

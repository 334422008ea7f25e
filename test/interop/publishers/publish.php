<?php

/** `php publish.php PORT FROM FIRST COUNT TOPICS`: numbered messages to every topic, in order. */

declare(strict_types=1);

[, $port, $from, $first, $count, $topics] = $argv;
$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);
for ($n = (int) $first; $n < $first + $count; $n++) {
    foreach (explode(',', $topics) as $topic) {
        $redis->publish("push:$topic", json_encode(['type' => 'tick', 'payload' => ['from' => $from, 'n' => $n]]));
    }
}

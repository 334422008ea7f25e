<?php

/** `php faults-worker.php URL USER REDIS_PORT TOPICS`: prints each message as `topic number`, and gaps as JSON. */

declare(strict_types=1);

use FastifyPushBridge\Client;
use FastifyPushBridge\Client\Options;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;

require __DIR__ . '/../../../php/autoload.php';

// An application may have a handler that throws, whatever `@` says.
set_error_handler(static fn (int $level, string $text) => throw new ErrorException($text, 0, $level));

[, $url, $user, $port, $topics] = $argv;

// A connection for each ticket: that of a moment ago may have ended with the Redis that is frozen now.
$ticket = function () use ($user, $port, $topics): string {
    $redis = new Redis();
    $redis->connect('127.0.0.1', (int) $port, 2, null, 0, 2);
    return Publisher::redis($redis)->ticket(['user' => $user, 'allow' => explode(',', $topics)]);
};
// Short delays: the run has more faults in it that way.
$client = new Client($url, new Options(ticket: $ticket, random: fn () => mt_rand() / mt_getrandmax() / 5));
$client->onError(fn (PushException $problem) => print("error {$problem->errorCode} {$problem->getMessage()}\n"));
foreach (explode(',', $topics) as $topic) {
    $client->subscribe($topic);
}
// Only from here on nothing may be missed.
while (array_diff(explode(',', $topics), array_keys($client->positions())) !== []) {
    $client->next(0.05);
}
echo "ready\n";
$connection = null;
foreach ($client->messages() as $message) {
    if ($connection !== $client->welcome()['connection']) {
        $connection = $client->welcome()['connection'];
        echo "connected $connection\n";
    }
    echo $message['type'] === 'gap' ? json_encode($message, JSON_THROW_ON_ERROR) : "{$message['topic']} {$message['payload']['n']}", "\n";
}

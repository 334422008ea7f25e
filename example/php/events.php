<?php

/**
 * A worker: reads what clients do and send from the stream push:events, and answers by publishing. Start as many as you like:
 * each entry goes to one of them, and what a worker that died had not finished goes to another.
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php events.php worker-1
 *
 * The nodes need the option `events: { stream: {}, messages: ['chat.*'] }`, or EVENTS_STREAM=events and EVENTS_MESSAGES=chat.*
 * for `serve`. A second argument ends the worker after so many entries.
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

const GROUP = 'workers';
const IDLE = 30_000;        // an entry that a worker has had for so many milliseconds goes to another one
const REMEMBERED = 86_400;  // seconds: as long as an event may be repeated

[$name, $limit] = array_slice($argv, 1) + ['worker-1', '0'];
$stream = getenv('EVENTS_STREAM') ?: 'push:events';
$idle = (int) (getenv('EVENTS_IDLE') ?: IDLE);

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);
$redis->setOption(Redis::OPT_READ_TIMEOUT, 10);   // longer than XREADGROUP blocks
$redis->xGroup('CREATE', $stream, GROUP, '0', true);   // false if it is there already

$json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;

/** What the application does with an event. If it throws, the entry comes again. */
$handle = function (array $event) use ($redis, $json): void {
    $who = $event['user'] ?? 'somebody';
    if ($event['kind'] === 'message' && $event['type'] === 'chat.say') {
        $said = ['who' => $who, 'text' => (string) ($event['payload']['text'] ?? '')];
        $redis->publish('push:channel:chat', json_encode(['type' => 'chat.said', 'payload' => $said], $json));
    }
    if ($event['kind'] === 'lost') {
        fwrite(STDERR, "{$event['count']} events were lost here\n");
    }
    echo "{$event['kind']} of $who\n";
};

/** Entries that another worker has had for too long, as [entry => fields]. */
$claim = function () use ($redis, $stream, $name, $idle): array {
    // phpredis has xAutoClaim from version 6 on.
    $reply = $redis->rawCommand('XAUTOCLAIM', $stream, GROUP, $name, (string) $idle, '0', 'COUNT', '100');
    $entries = [];
    foreach ($reply[1] ?? [] as [$entry, $fields]) {
        foreach (array_chunk($fields ?: [], 2) as [$key, $value]) {
            $entries[$entry][$key] = $value;
        }
    }
    return $entries;
};

for ($count = 0; $limit === '0' || $count < (int) $limit;) {
    $entries = $claim() ?: ($redis->xReadGroup(GROUP, $name, [$stream => '>'], 100, 5000)[$stream] ?? []);
    foreach ($entries as $entry => $fields) {
        // The id of the event, not of the entry: a node that got no answer appends the same event again.
        $seen = "$stream:seen:{$fields['id']}";
        if (!$redis->exists($seen)) {
            $event = json_decode($fields['event'], true);
            // PHP does not take all that JavaScript takes for JSON, such as "\ud800". It would end every worker that reads it.
            $event === null ? fwrite(STDERR, "PHP cannot read event {$fields['id']}\n") : $handle($event);
            $redis->set($seen, '1', ['ex' => REMEMBERED]);
        }
        $redis->xAck($stream, GROUP, [$entry]);
        $count++;
    }
}

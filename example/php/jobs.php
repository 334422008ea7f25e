<?php

/**
 * Slow work in PHP: a client asks with a message, the node writes it to a stream and answers "accepted" at once, and this worker
 * does the work and publishes the result. Meanwhile the node goes on pushing. Start as many workers as you like.
 *
 *   REDIS_URL=redis://127.0.0.1:6379 EVENTS_STREAM=events EVENTS_KINDS=message EVENTS_MESSAGES='report.*' \
 *   npx fastify-push-bridge serve
 *
 *   REDIS_HOST=127.0.0.1 REDIS_PORT=6379 php jobs.php worker-1
 *
 * In an application: `events: { messages: ['report.*'], stream: { include: ['message'] } }`. In a page:
 *
 *   client.on('report.done', ({ job, orders }) => …)
 *   client.on('report.failed', ({ job }) => …)
 *   const { id } = await client.request('report.ask', { year: 2025 })      // the job
 *
 * Needs Redis 7 or later, or Valkey. Without Redis the worker ends: let systemd or supervisord start it again.
 * FAIL=1 to see what becomes of failures: the first attempt fails before it has published, the second one after.
 */

declare(strict_types=1);

if (!class_exists('Redis')) {
    fwrite(STDERR, "This example needs the PHP extension redis (phpredis): pecl install redis\n");
    exit(1);
}

const GROUP = 'reports';
const ATTEMPTS = 3;
const WAIT = 60_000;   // milliseconds until a job that has not been finished is tried again: longer than any job takes

$name = $argv[1] ?? 'worker-1';
$stream = getenv('JOBS_STREAM') ?: 'push:events';
$wait = (int) (getenv('JOBS_WAIT') ?: WAIT);

$redis = new Redis();
$redis->connect(getenv('REDIS_HOST') ?: '127.0.0.1', (int) (getenv('REDIS_PORT') ?: 6379), 2.0);
$redis->setOption(Redis::OPT_READ_TIMEOUT, 10);        // longer than XREADGROUP blocks
$redis->xGroup('CREATE', $stream, GROUP, '0', true);   // false if it is there already

/** Stands for the slow work. */
function report(array $job): array
{
    $year = (int) ($job['payload']['year'] ?? 0);
    if ($year < 2000 || $year > (int) date('Y')) {
        throw new RuntimeException("there are no orders of $year");
    }
    usleep(100_000);
    return ['year' => $year, 'orders' => $year % 100];
}

/**
 * Recorded, so that a page that was away gets it when it is back. The key names the job, so whatever is published for it twice
 * arrives once: a repeat, and also a failure that comes although the result had been published. Says whether it was a repeat.
 */
function tell(Redis $redis, array $job, string $type, array $payload): bool
{
    $json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
    $envelope = json_encode(['type' => $type, 'payload' => ['job' => $job['id']] + $payload], $json);
    if ($job['user'] === null) {
        // A connection without a user cannot be told what it missed: it may get a repeat, which has the same job.
        $redis->publish("push:connection:{$job['connection']}", $envelope);
        return false;
    }
    return (bool) $redis->rawCommand('FCALL', 'push_publish', 1, "push:user:{$job['user']}", $envelope, 100, 3600, $job['id'])[3];
}

/** Whether the job is over; if not, it comes again. */
function attempt(Redis $redis, array $job, int $attempt): bool
{
    try {
        $report = report($job);
        if (getenv('FAIL') && $attempt === 1) {
            throw new RuntimeException('failed before it was published');
        }
        $again = tell($redis, $job, 'report.done', $report);
        if (getenv('FAIL') && $attempt === 2) {
            throw new RuntimeException('failed after it was published');
        }
        echo "{$job['id']}, attempt $attempt: ", $again ? 'was published before' : 'published', "\n";
        return true;
    } catch (RuntimeException $problem) {
        echo "{$job['id']}, attempt $attempt: {$problem->getMessage()}\n";
        if ($attempt < ATTEMPTS) {
            return false;
        }
        tell($redis, $job, 'report.failed', ['message' => 'the report cannot be written']);
        return true;
    }
}

/** One job at a time: what a worker has taken and not begun would look like one that it cannot finish. */
$next = function () use ($redis, $stream, $name, $wait): array {
    // phpredis has xAutoClaim from version 6 on.
    foreach ($redis->rawCommand('XAUTOCLAIM', $stream, GROUP, $name, (string) $wait, '0', 'COUNT', '1')[1] ?? [] as [$entry, $fields]) {
        // A stream keeps its newest entries: those of an older one are gone.
        return [$entry, array_column(array_chunk($fields ?: [], 2), 1, 0)];
    }
    $new = $redis->xReadGroup(GROUP, $name, [$stream => '>'], 1, min($wait, 5000))[$stream] ?? [];
    return $new ? [array_key_first($new), current($new)] : [null, null];
};

for (;;) {
    [$entry, $fields] = $next();
    if ($entry === null) {
        continue;
    }
    // Null as well for what JavaScript takes for JSON and PHP does not, such as "\ud800": nothing will ever come of it.
    $job = json_decode($fields['event'] ?? 'null', true);
    $isOver = true;
    if ($job !== null && $job['kind'] === 'message' && $job['type'] === 'report.ask') {
        // How often it was given to a worker.
        $attempts = $redis->rawCommand('XPENDING', $stream, GROUP, $entry, $entry, '1')[0][3] ?? 1;
        $isOver = attempt($redis, $job, (int) $attempts);
    }
    if ($isOver) {
        $redis->xAck($stream, GROUP, [$entry]);
    }
}

<?php

/**
 * Publishing from Laravel without the Composer package, in one class. broadcast(), routes/channels.php and Laravel Echo go over the
 * bridge with the package: docs/laravel.md.
 *
 * Laravel: put this class into app/Services/Push.php, and then anywhere:
 *
 *   Push::publish('user:42', 'order.created', ['id' => 1001]);
 *
 * Needs the extension redis (phpredis) or the package predis/predis, as Laravel's own Redis does.
 *
 * The trap is `database.redis.options.prefix` (config/database.php, REDIS_PREFIX, by default "laravel_database_" or
 * made of the application's name). Laravel gives it to the client, which puts it before every key and channel:
 * Redis::publish('push:user:42', …) goes to "laravel_database_push:user:42", returns 0, and nobody hears it.
 * A raw command is sent as it stands. It exists with phpredis and with Predis.
 *
 * Or add a connection without a prefix to config/database.php, under 'redis', and use Redis::connection('push'):
 *
 *   'push' => ['host' => env('REDIS_HOST'), 'port' => env('REDIS_PORT'), 'options' => ['prefix' => '']],
 *
 * The other way round, redisPrefix: 'laravel_database_push:' makes the nodes listen where Laravel publishes.
 */

declare(strict_types=1);

namespace App\Services;

use Illuminate\Support\Facades\Redis;

final class Push
{
    private const JSON = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;

    /** How many nodes have somebody there for it. */
    public static function publish(string $topic, string $type, array|object $payload): int
    {
        $envelope = ['type' => $type, 'payload' => $payload ?: (object) []];
        return Redis::executeRaw(['PUBLISH', "push:$topic", json_encode($envelope, self::JSON)]);
    }

    /**
     * The same, kept for who is away: the newest 100 of the topic, for an hour. A repeat with the same key does nothing.
     * Gives the id, the number in the topic, how many nodes listen, and 1 for a repeat.
     */
    public static function record(string $topic, string $type, array|object $payload, string $key): array
    {
        $envelope = json_encode(['type' => $type, 'payload' => $payload ?: (object) []], self::JSON);
        return Redis::executeRaw(['FCALL', 'push_publish', 1, "push:$topic", $envelope, 100, 3600, $key]);
    }

    /** For `connect('/ws', { ticket })` of the page. The connection's `database` must be that of the nodes. */
    public static function ticket(string $user, array $allow = []): string
    {
        $ticket = bin2hex(random_bytes(24));
        $identity = json_encode(['user' => $user, 'allow' => $allow], self::JSON);
        Redis::executeRaw(['SET', "push:ticket:$ticket", $identity, 'EX', 30, 'NX']);
        return $ticket;
    }
}

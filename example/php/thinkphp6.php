<?php

/**
 * ThinkPHP 6: put this class into app/service/Push.php, and then anywhere:
 *
 *   Push::publish('user:42', 'order.created', ['id' => 1001]);
 *
 * Needs a store named "redis" of type redis in config/cache.php; ticket() also needs the extension redis (phpredis).
 *
 * The trap is the cache's own prefix and serializer (config/cache.php: `prefix`, `serialize`). Cache::set() and its like
 * apply both, so that a ticket written with them has another name and holds PHP's serialization: the node never finds
 * it. handler() is the phpredis client under the cache, which knows neither. (With Predis instead of the extension,
 * the prefix goes to the client itself: give a store of its own an empty one.)
 */

declare(strict_types=1);

namespace app\service;

use think\facade\Cache;

final class Push
{
    private const JSON = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;

    /** How many nodes have somebody there for it. */
    public static function publish(string $topic, string $type, array|object $payload): int
    {
        $envelope = ['type' => $type, 'payload' => $payload ?: (object) []];
        return Cache::store('redis')->handler()->publish("push:$topic", json_encode($envelope, self::JSON));
    }

    /** For `connect('/ws', { ticket })` of the page. The store's `select` must be the database of the nodes. */
    public static function ticket(string $user, array $allow = []): string
    {
        $ticket = bin2hex(random_bytes(24));
        $identity = json_encode(['user' => $user, 'allow' => $allow], self::JSON);
        Cache::store('redis')->handler()->set("push:ticket:$ticket", $identity, ['nx', 'ex' => 30]);
        return $ticket;
    }
}

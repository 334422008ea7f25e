<?php

/** As much of Laravel's Redis facade as example/php/laravel.php calls, over a client with Laravel's prefix. */

declare(strict_types=1);

namespace Illuminate\Support\Facades {
    final class Redis
    {
        private static function client(): \Redis
        {
            $client = new \Redis();
            $client->connect(getenv('REDIS_HOST'), (int) getenv('REDIS_PORT'));
            $client->setOption(\Redis::OPT_PREFIX, 'laravel_database_');
            return $client;
        }

        /** PhpRedisConnection::executeRaw(). */
        public static function executeRaw(array $parameters): mixed
        {
            return self::client()->rawCommand(...$parameters);
        }

        /** What everybody tries first. */
        public static function publish(string $channel, string $message): mixed
        {
            return self::client()->publish($channel, $message);
        }
    }
}

namespace {
    require $argv[1];
    echo json_encode([
        'nodes' => App\Services\Push::publish('user:laravel', 'order.created', []),
        'trap' => Illuminate\Support\Facades\Redis::publish('push:user:laravel', '{"type":"trap"}'),
        'recorded' => App\Services\Push::record('user:laravel', 'order.paid', ['id' => 7], 'paid-7'),
        'ticket' => App\Services\Push::ticket('laravel', ['channel:orders']),
    ]);
}

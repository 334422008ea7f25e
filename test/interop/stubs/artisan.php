<?php

/** As much of Laravel as docs/coming-from/reverb.md uses: its Redis with its prefix, a command `ticket`, and code to run. */

declare(strict_types=1);

namespace Illuminate\Support\Facades {
    final class Redis
    {
        /** PhpRedisConnection::executeRaw(). */
        public static function executeRaw(array $parameters): mixed
        {
            $redis = new \Redis();
            $redis->connect('127.0.0.1', (int) getenv('REDIS_PORT'));
            $redis->setOption(\Redis::OPT_PREFIX, 'laravel_database_');
            return $redis->rawCommand(...$parameters);
        }
    }
}

namespace {
    require getcwd() . '/Push.php';
    $allow = [['topics' => ['channel:news'], 'actions' => ['subscribe', 'history']]];
    $argv[1] === 'ticket' ? print App\Services\Push::ticket('42', $allow) : eval($argv[2]);
}

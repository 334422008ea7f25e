<?php

/** As much of ThinkPHP as docs/coming-from/think-swoole.md uses: the cache, the session, a command `ticket`, and code to run. */

declare(strict_types=1);

namespace think\facade {
    final class Cache
    {
        public static function store(string $name): self
        {
            return new self();
        }

        public function handler(): \Redis
        {
            $redis = new \Redis();
            $redis->connect('127.0.0.1', (int) getenv('REDIS_PORT'));
            return $redis;
        }
    }
}

namespace {
    function session(string $name): mixed
    {
        return ['user_id' => 42][$name] ?? null;
    }

    require getcwd() . '/Push.php';
    require getcwd() . '/Ticket.php';
    $argv[1] === 'ticket' ? print (new app\controller\Ticket())->index() : eval($argv[2]);
}

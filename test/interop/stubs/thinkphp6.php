<?php

/** As much of ThinkPHP 6's cache as example/php/thinkphp6.php calls, with a prefix and its serializer. */

declare(strict_types=1);

namespace think\facade {
    final class Cache
    {
        private \Redis $handler;

        public static function store(string $name): self
        {
            return new self();
        }

        private function __construct()
        {
            $this->handler = new \Redis();
            $this->handler->connect(getenv('REDIS_HOST'), (int) getenv('REDIS_PORT'));
        }

        public function handler(): \Redis
        {
            return $this->handler;
        }

        /** think\cache\driver\Redis::set(): what everybody tries first. */
        public function set(string $name, mixed $value, int $expire): bool
        {
            return $this->handler->setex('tp6_' . $name, $expire, serialize($value));
        }
    }
}

namespace {
    require $argv[1];
    think\facade\Cache::store('redis')->set('push:ticket:' . str_repeat('ab', 24), '{"user":"trap"}', 30);
    echo json_encode([
        'nodes' => app\service\Push::publish('user:thinkphp', 'order.created', []),
        'trap' => str_repeat('ab', 24),
        'ticket' => app\service\Push::ticket('thinkphp', ['channel:orders']),
    ]);
}

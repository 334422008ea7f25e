<?php

declare(strict_types=1);

namespace FastifyPushBridge\Think;

use FastifyPushBridge\Publisher;
use FastifyPushBridge\Settings;

/**
 * Publisher in the container of ThinkPHP 6 and 8: `app(Publisher::class)`, or a parameter of a controller. config/push.php
 * may have `store` (a store of config/cache.php of type redis, default `redis`), `prefix` and `sharded` as the nodes have
 * them, or `url` and `key` for the push API.
 */
final class Service extends \think\Service
{
    public function register(): void
    {
        $app = $this->app;
        // Nothing connects until somebody publishes. The container keeps what the closure gives.
        $app->bind(Publisher::class, static function () use ($app): Publisher {
            $config = (array) $app->config->get('push', []);
            // The client below the cache, which knows neither its prefix nor its serializer.
            $redis = static fn () => $app->cache->store($config['store'] ?? 'redis')->handler();
            return Settings::publisher($config, $redis);
        });
    }
}

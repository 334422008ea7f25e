<?php

declare(strict_types=1);

namespace FastifyPushBridge;

use FastifyPushBridge\Transport\RedisOptions;

/** A publisher out of the configuration of a framework. */
final class Settings
{
    /**
     * With a `url` over HTTP, with its `key`; without one over the Redis of the framework. `prefix` and `sharded` are those
     * of the nodes. What is null or empty is not set: an environment variable that is missing, for example.
     *
     * @param array<string, mixed> $config
     * @param \Closure(): (\Redis|\RedisCluster|\Predis\ClientInterface) $redis
     */
    public static function publisher(#[\SensitiveParameter] array $config, \Closure $redis): Publisher
    {
        $url = (string) ($config['url'] ?? '');
        if ($url !== '') {
            return Publisher::http($url, (string) ($config['key'] ?? ''));
        }
        $prefix = (string) ($config['prefix'] ?? '');
        $options = new RedisOptions($prefix === '' ? 'push:' : $prefix, (bool) ($config['sharded'] ?? false));
        return Publisher::redis($redis(), $options);
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Laravel;

use FastifyPushBridge\Publisher;
use FastifyPushBridge\Settings;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Contracts\Container\Container;
use Illuminate\Support\ServiceProvider;

/** The broadcasting driver `push`, and Publisher for whatever else an application wants of the nodes. */
final class PushServiceProvider extends ServiceProvider
{
    private const CONFIG = 'broadcasting.connections.push';

    public function register(): void
    {
        $this->mergeConfigFrom(__DIR__ . '/config.php', self::CONFIG);
        $this->app->singleton(Publisher::class, static function (Container $app): Publisher {
            return self::publisher($app, (array) $app->make('config')->get(self::CONFIG));
        });
    }

    public function boot(): void
    {
        $this->callAfterResolving(BroadcastManager::class, static function (BroadcastManager $manager): void {
            $manager->extend('push', static function (Container $app, array $config): PushBroadcaster {
                return new PushBroadcaster(static fn () => self::publisher($app, $config), $config);
            });
        });
    }

    private static function publisher(Container $app, array $config): Publisher
    {
        $connection = $config['connection'] ?? null;
        return Settings::publisher($config, static fn () => $app->make('redis')->connection($connection)->client());
    }
}

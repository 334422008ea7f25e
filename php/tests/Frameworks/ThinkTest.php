<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests\Frameworks;

use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Think\Service;
use PHPUnit\Framework\TestCase;
use think\App;

final class ThinkTest extends TestCase
{
    /** @param list<string> $asked the stores that were asked for */
    private static function app(array $config, array &$asked): App
    {
        $store = new class {
            public function handler(): \Redis
            {
                return new \Redis();
            }
        };
        $cache = new class ($store, $asked) {
            public function __construct(private object $store, private array &$asked)
            {
            }

            public function store(string $name): object
            {
                $this->asked[] = $name;
                return $this->store;
            }
        };
        $settings = new class ($config) {
            public function __construct(private array $config)
            {
            }

            public function get(string $name, mixed $default = null): mixed
            {
                return $name === 'push' ? $this->config : $default;
            }
        };
        $app = new App($settings, $cache);
        $app->register(Service::class);
        return $app;
    }

    public function testNothingConnectsUntilSomebodyPublishes(): void
    {
        $asked = [];
        $app = self::app([], $asked);
        self::assertSame([], $asked);
        $publisher = $app->make(Publisher::class);
        self::assertInstanceOf(Publisher::class, $publisher);
        self::assertSame(['redis'], $asked);
        self::assertSame($publisher, $app->make(Publisher::class));
    }

    public function testTheConfigurationSaysWhichStoreOrThePushApi(): void
    {
        $asked = [];
        self::app(['store' => 'push', 'prefix' => 'shop:'], $asked)->make(Publisher::class);
        self::app(['url' => 'http://127.0.0.1:3000/push', 'key' => 'a-long-random-key'], $asked)->make(Publisher::class);
        self::assertSame(['push'], $asked);
    }

    public function testAWrongConfigurationIsNamed(): void
    {
        $asked = [];
        $this->expectException(PushException::class);
        $this->expectExceptionMessage('prefix');
        self::app(['prefix' => 'a b'], $asked)->make(Publisher::class);
    }
}

<?php

/**
 * As much of ThinkPHP as Think\Service uses, with the behaviour of topthink/framework 8: `Container::bind` keeps a closure,
 * `make` calls it once, `App` finds `config` and `cache` as properties.
 */

declare(strict_types=1);

namespace think {
    abstract class Service
    {
        public function __construct(protected App $app)
        {
        }
    }

    final class App
    {
        private array $bind = [];
        private array $instances = [];

        public function __construct(public readonly object $config, public readonly object $cache)
        {
        }

        public function bind(string|array $abstract, $concrete = null)
        {
            $this->bind[$abstract] = $concrete;
            return $this;
        }

        public function make(string $abstract, array $vars = [], bool $newInstance = false)
        {
            return $this->instances[$abstract] ??= ($this->bind[$abstract])();
        }

        public function register(Service|string $service, bool $force = false)
        {
            $service = is_string($service) ? new $service($this) : $service;
            $service->register();
        }
    }
}

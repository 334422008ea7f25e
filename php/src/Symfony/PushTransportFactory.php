<?php

declare(strict_types=1);

namespace FastifyPushBridge\Symfony;

use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use Symfony\Component\Notifier\Exception\IncompleteDsnException;
use Symfony\Component\Notifier\Exception\UnsupportedSchemeException;
use Symfony\Component\Notifier\Transport\Dsn;
use Symfony\Component\Notifier\Transport\TransportFactoryInterface;
use Symfony\Component\Notifier\Transport\TransportInterface;

/**
 * `push://KEY@127.0.0.1:3000/push?topic=channel:news` and, over TLS, `pushs://…` publish over the push API;
 * `push://default?topic=channel:news` with the Publisher that the factory was given.
 */
final class PushTransportFactory implements TransportFactoryInterface
{
    private const SCHEMES = ['push' => 'http', 'pushs' => 'https'];

    public function __construct(private readonly ?Publisher $publisher = null)
    {
    }

    public function supports(Dsn $dsn): bool
    {
        return isset(self::SCHEMES[$dsn->getScheme()]);
    }

    public function create(Dsn $dsn): TransportInterface
    {
        if (!$this->supports($dsn)) {
            throw new UnsupportedSchemeException($dsn, 'push', array_keys(self::SCHEMES));
        }
        $topic = $dsn->getOption('topic');
        $host = $dsn->getHost() . ($dsn->getPort() === null ? '' : ":{$dsn->getPort()}");
        $name = "{$dsn->getScheme()}://$host{$dsn->getPath()}" . ($topic === null ? '' : "?topic=$topic");
        return new PushTransport($this->publisherOf($dsn, $host), $topic, $name);
    }

    private function publisherOf(Dsn $dsn, string $host): Publisher
    {
        if ($dsn->getHost() === 'default') {
            return $this->publisher ?? throw new IncompleteDsnException(
                'push://default needs a Publisher: pass one to PushTransportFactory, or name the push API in the DSN.',
            );
        }
        try {
            $url = self::SCHEMES[$dsn->getScheme()] . "://$host" . ($dsn->getPath() ?? '/push');
            return Publisher::http($url, $dsn->getUser() ?? '');
        } catch (PushException $problem) {
            throw new IncompleteDsnException("push: {$problem->getMessage()}");
        }
    }
}

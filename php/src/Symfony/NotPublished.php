<?php

declare(strict_types=1);

namespace FastifyPushBridge\Symfony;

use FastifyPushBridge\PushException;
use Symfony\Component\Notifier\Exception\TransportExceptionInterface;

/** Symfony's failover and its retries look for this interface. The PushException is `getPrevious()`. */
final class NotPublished extends \RuntimeException implements TransportExceptionInterface
{
    private string $debug;

    public function __construct(PushException $problem)
    {
        parent::__construct("not published: {$problem->getMessage()}", 0, $problem);
        $this->debug = $problem->errorCode;
    }

    public function getDebug(): string
    {
        return $this->debug;
    }

    public function appendDebug(string $debug): void
    {
        $this->debug .= $debug;
    }
}

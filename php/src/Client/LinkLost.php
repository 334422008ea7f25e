<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** The connection ended or could not be opened. Only the client sees this: it decides what becomes of it. */
final class LinkLost extends \RuntimeException
{
    public function __construct(
        public readonly int $closeCode,
        string $reason,
        /** Seconds after which the server wants to be asked again. */
        public readonly ?float $retryAfter = null,
    ) {
        parent::__construct($reason);
    }
}

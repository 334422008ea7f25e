<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** Delays that grow and are random: clients that were disconnected together must not return together. */
final class Backoff
{
    public const MAX_DELAY = 30.0;

    private int $failures = 0;

    /** @param \Closure(): float $random from 0 to 1 */
    public function __construct(private readonly ?\Closure $random = null)
    {
    }

    /** Seconds until the next attempt. */
    public function next(): float
    {
        $most = min(self::MAX_DELAY, 2.0 ** min($this->failures++, 10));
        return $most * ($this->random === null ? mt_rand() / mt_getrandmax() : ($this->random)());
    }

    /** The connection was stable for a while. */
    public function reset(): void
    {
        $this->failures = 0;
    }

    public function failures(): int
    {
        return $this->failures;
    }
}

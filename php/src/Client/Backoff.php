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

    /** Seconds until the next attempt, and no fewer than `least`, in which the server said that it has no room. */
    public function next(float $least = 0.0): float
    {
        $most = min(self::MAX_DELAY, 2.0 ** min($this->failures++, 10));
        return min($least, self::MAX_DELAY) + $most * ($this->random === null ? self::random() : ($this->random)());
    }

    /** From 0 to 1. Not mt_rand(): programs that were forked would have the same numbers. */
    public static function random(): float
    {
        return random_int(0, 1 << 30) / (1 << 30);
    }

    /** The connection was stable for a while. */
    public function reset(): void
    {
        $this->failures = 0;
    }

}

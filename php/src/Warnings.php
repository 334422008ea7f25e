<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/**
 * PHP says in a warning that a connection broke. The error handler of an application may throw there, `@` or not: the
 * exception would come out of the middle of our work, and the connection would stay as it is, half used.
 */
final class Warnings
{
    /** Every further one says no more than the first. */
    private const MAX_KEPT = 10;

    /**
     * Runs `work` with its warnings kept from the handler of the application.
     *
     * @template T
     * @param \Closure(): T $work
     * @param list<string> $said what the warnings say, without the name of the function
     * @return T
     */
    public static function kept(\Closure $work, array &$said = []): mixed
    {
        set_error_handler(static function (int $level, string $text) use (&$said): bool {
            if (count($said) < self::MAX_KEPT) {
                $said[] = (string) preg_replace('~^[\w:]+\([^)]*\): ~', '', $text);
            }
            return true;
        });
        try {
            return $work();
        } finally {
            restore_error_handler();
        }
    }
}

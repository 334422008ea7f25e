<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** The place of a recorded publication in its topic: `TIMELINE.SEQ.MARK`. */
final class Position
{
    private const ID = '/^([0-9a-z]{1,32})\.(\d{1,16})\.(\d{1,16})-(\d{1,16})\z/';

    /**
     * Whether a reader that has everything up to `by` also has `id`. Two timelines cannot be compared. A lower number
     * with a later mark belongs to a history that began anew.
     */
    public static function isCovered(string $id, string $by): bool
    {
        if ($id === $by) {
            return true;
        }
        if (preg_match(self::ID, $id, $one) !== 1 || preg_match(self::ID, $by, $other) !== 1) {
            return false;
        }
        if ((int) $one[2] > (int) $other[2] || $one[1] !== $other[1]) {
            return false;
        }
        return [(int) $one[3], (int) $one[4]] <= [(int) $other[3], (int) $other[4]];
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Redis;

use FastifyPushBridge\PushException;

/** What a failed command means for a publisher. */
final class Failure
{
    private const NO_FUNCTION = '/^ERR (Function not found|unknown command)/i';

    /** Redis answered with an error: nothing was done. */
    public static function ofReply(string $text): PushException
    {
        // Redis repeats the arguments of an unknown command, and these have the payload in them.
        $said = (string) preg_replace('/,? with args beginning with.*\z/s', '', $text);
        if (preg_match('/^(PUSH_ERR_[A-Z_]+) (.*)\z/s', $said, $parts) === 1) {
            return new PushException($parts[1], $parts[2]);
        }
        if (preg_match(self::NO_FUNCTION, $said) === 1) {
            $sentence = 'this Redis does not have the functions of the nodes: start a node that uses it, or publish '
                . "over HTTP if it allows no functions ($said)";
            return new PushException('PUSH_ERR_UNSUPPORTED', $sentence);
        }
        return new PushException('PUSH_ERR_BROKER_AWAY', "Redis refused the command: $said");
    }

    /** No connection could be opened: nothing was sent. */
    public static function ofConnecting(\Throwable $cause): PushException
    {
        $sentence = "Redis cannot be reached, and nothing was sent: {$cause->getMessage()}";
        return new PushException('PUSH_ERR_BROKER_AWAY', $sentence, $cause);
    }

    /** The connection broke, or no answer came in time: the command may have been executed. */
    public static function ofLink(\Throwable $cause): PushException
    {
        $sentence = 'no answer came from Redis: it may or may not have been done, and with an idempotency key it is '
            . "safe to do it again ({$cause->getMessage()})";
        return new PushException('PUSH_ERR_UNCONFIRMED', $sentence, $cause);
    }
}

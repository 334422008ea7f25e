<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** Why a connection ended. */
final class CloseCode
{
    public const NORMAL = 1000;
    public const PROTOCOL_ERROR = 1002;
    public const NO_CODE = 1005;
    public const ABNORMAL = 1006;
    public const INVALID_TEXT = 1007;
    public const TOO_BIG = 1009;

    /** A client stays closed on 1000, 1008, 1009 and 44xx, and reconnects on everything else. */
    public static function shouldReconnect(int $code): bool
    {
        return !in_array($code, [1000, 1008, 1009], true) && ($code < 4400 || $code > 4499);
    }

    /** The close code that says the same as a refused upgrade. What is not in it may be another minute. */
    public static function ofStatus(int $status): int
    {
        return match ($status) {
            400 => 4400,
            401 => 4401,
            403 => 4403,
            default => self::ABNORMAL,
        };
    }

    /** Whether this client ends the connection with it, because of what the server sent. */
    public static function isOfClient(int $code): bool
    {
        return in_array($code, [self::PROTOCOL_ERROR, self::INVALID_TEXT, self::TOO_BIG], true);
    }

    /** Whether it may stand in a frame (RFC 6455 section 7.4). */
    public static function isSendable(int $code): bool
    {
        return ($code >= 1000 && $code <= 1014 && !in_array($code, [1004, 1005, 1006], true))
            || ($code >= 3000 && $code <= 4999);
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/** JSON as the contracts want it: UTF-8, `1.0` stays `1.0`, and a failure is never an empty string. */
final class Json
{
    private const FLAGS = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES
        | JSON_PRESERVE_ZERO_FRACTION;

    /** More than the parser of PHP takes, which gives up at some thousand levels: the default of 512 would lose messages. */
    private const MAX_DEPTH = 100_000;

    /** `what` names the value in the message of the exception. */
    public static function encode(mixed $value, string $what): string
    {
        try {
            return json_encode($value, self::FLAGS);
        } catch (\JsonException $problem) {
            $sentence = "$what cannot be written as JSON: {$problem->getMessage()}";
            throw new PushException('PUSH_ERR_FIELD', $sentence, $problem);
        }
    }

    /** An array for objects and lists; null for what is neither, or no JSON at all. */
    public static function decodeArray(string $text): ?array
    {
        $value = json_decode($text, true, self::MAX_DEPTH, JSON_BIGINT_AS_STRING);
        return is_array($value) ? $value : null;
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Json;
use FastifyPushBridge\PushException;

/** The answer to a request: a message with its ref. */
final class Answer
{
    private function __construct(public readonly mixed $payload)
    {
    }

    /** Null if the frame is something else. @throws PushException the error of the server */
    public static function in(Frame $frame, int $ref): ?self
    {
        $message = $frame->opcode === Frame::TEXT ? Json::decodeArray($frame->payload) : null;
        if (($message['ref'] ?? null) !== $ref) {
            return null;
        }
        $payload = $message['payload'] ?? null;
        return ($message['type'] ?? null) === 'error' ? throw self::error((array) $payload) : new self($payload);
    }

    public static function error(array $payload): PushException
    {
        $code = $payload['code'] ?? null;
        $message = $payload['message'] ?? null;
        return new PushException(is_string($code) ? $code : 'INVALID', is_string($message) ? $message : 'no message');
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/**
 * Everything that goes wrong here. Check `errorCode`, which is stable; the message says what to do.
 *
 * The codes are those of the nodes (`PUSH_ERR_TOPIC` …). Two ask for something else than a correction:
 * `PUSH_ERR_BROKER_AWAY`: nothing was published, publish again later. `PUSH_ERR_UNCONFIRMED`: it may or may not have
 * been published; with an idempotency key it is safe to publish again. The client has its own codes besides: `CLOSED`,
 * `TIMEOUT`, `BUSY`, `CONNECT` and `TICKET`.
 */
final class PushException extends \RuntimeException
{
    public function __construct(
        public readonly string $errorCode,
        string $message,
        ?\Throwable $previous = null,
        /** The HTTP status or the close code, if there was one. */
        public readonly ?int $status = null,
    ) {
        parent::__construct($message, 0, $previous);
    }

    /** Whether nothing was done, and the same call may succeed later. */
    public function isAway(): bool
    {
        return $this->errorCode === 'PUSH_ERR_BROKER_AWAY';
    }

    /** Whether it may or may not have been done. */
    public function isUnconfirmed(): bool
    {
        return $this->errorCode === 'PUSH_ERR_UNCONFIRMED';
    }
}

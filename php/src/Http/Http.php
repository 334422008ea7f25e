<?php

declare(strict_types=1);

namespace FastifyPushBridge\Http;

use FastifyPushBridge\PushException;

/** One request and its answer. */
interface Http
{
    /** What is longer is no answer of the push API: a page of a history is the longest, some megabytes. */
    public const MAX_ANSWER = 16 * 1024 * 1024;

    /**
     * @param list<string> $headers
     * @return array{status: int, body: string}
     * @throws PushException PUSH_ERR_BROKER_AWAY if nothing was sent, PUSH_ERR_UNCONFIRMED if no answer came
     */
    public function send(string $method, string $url, array $headers, ?string $body): array;
}

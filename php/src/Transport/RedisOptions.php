<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\PushException;

/** What must be the same as on the nodes, and how long to wait for them. */
final class RedisOptions
{
    private const PREFIX = '/^(?!.*(?:channel|user|connection):)[^\s{}*?\[\]\\\\]{1,64}\z/';

    public function __construct(
        /** `redisPrefix` of the nodes. */
        public readonly string $prefix = 'push:',
        /** Whether the nodes use sharded pub/sub in a Cluster. */
        public readonly bool $sharded = false,
        /** Seconds for which the answers of nodes are awaited. */
        public readonly float $timeout = 2.0,
        /** Seconds for which `revoke` keeps a user out: `revocation.ttl` of the nodes. */
        public readonly int $revocationTtl = 86_400,
    ) {
        if (preg_match(self::PREFIX, $prefix) !== 1) {
            $sentence = 'prefix is not 1 to 64 characters without white space, braces, wildcards and kinds of topic';
            throw new PushException('PUSH_ERR_OPTIONS', $sentence);
        }
        if (!($timeout > 0 && $timeout <= 60) || $revocationTtl < 1) {
            $sentence = 'timeout is more than 0 and at most 60 seconds, revocationTtl at least 1';
            throw new PushException('PUSH_ERR_OPTIONS', $sentence);
        }
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Redis;


/** Plain commands to one Redis or a Cluster, through whichever library the application has. */
interface Commands
{
    /**
     * Runs each command at the server that has its key, in order, in one round trip where the library can do that.
     *
     * @param list<array{key: string, command: non-empty-list<string>}> $calls
     * @return list<mixed> a reply for each: what Redis answered, null for nothing, or a PushException
     */
    public function run(array $calls): array;
}

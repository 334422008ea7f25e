<?php

declare(strict_types=1);

namespace FastifyPushBridge\Redis;

use FastifyPushBridge\PushException;
use FastifyPushBridge\Warnings;

/** The extension redis with a Redis Cluster: each command goes to the master that has the slot of its key. */
final class PhpRedisCluster implements Commands
{
    public function __construct(private readonly \RedisCluster $redis)
    {
        if ((string) $redis->getOption(\RedisCluster::OPT_PREFIX) !== '') {
            // It would be added to the key by which the master is chosen, and to nothing else.
            $sentence = 'this RedisCluster has OPT_PREFIX: use one without it, and RedisOptions(prefix: …)';
            throw new PushException('PUSH_ERR_OPTIONS', $sentence);
        }
    }

    public function run(array $calls): array
    {
        $runOne = fn (array $call): mixed => $this->runOne($call['key'], $call['command']);
        return Warnings::kept(static fn (): array => array_map($runOne, $calls));
    }

    private function runOne(string $key, array $command): mixed
    {
        try {
            $this->redis->clearLastError();
            $reply = $this->redis->rawCommand($key, ...$command);
        } catch (\RedisClusterException | \RedisException $problem) {
            return $this->failure($problem);
        }
        $error = $reply === false ? $this->redis->getLastError() : null;
        return $error !== null ? Failure::ofReply($error) : ($reply === false ? null : $reply);
    }

    private function failure(\Throwable $problem): PushException
    {
        $text = $problem->getMessage();
        if (preg_match('/^[A-Z][A-Z_]+( |\z)/', $text) === 1) {
            return Failure::ofReply($text);
        }
        if (str_contains($text, 'CLUSTERDOWN')) {
            return Failure::ofReply($text);
        }
        // The answer that is late would be taken for that of the next command, which connects again by itself.
        $this->redis->close();
        return Failure::ofLink($problem);
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Redis;

use FastifyPushBridge\PushException;
use FastifyPushBridge\Warnings;

/**
 * The extension redis. `rawCommand` adds no prefix and uses no serializer, so a connection of Laravel or ThinkPHP will
 * do as it is.
 */
final class PhpRedis implements Commands
{
    /** The connection was given up, and nothing says that the next one is in our database and in step. */
    private bool $isAstray = false;

    public function __construct(private readonly \Redis $redis)
    {
    }

    public function run(array $calls): array
    {
        return Warnings::kept(fn (): array => $this->runAll($calls));
    }

    private function runAll(array $calls): array
    {
        if ($this->redis->getMode() !== \Redis::ATOMIC) {
            $sentence = 'this Redis connection is in a transaction or pipeline: publish before multi() or after exec()';
            throw new PushException('PUSH_ERR_OPTIONS', $sentence);
        }
        // Not a pipeline: there, phpredis replaces errors by false and does not tell which was whose.
        $replies = [];
        foreach ($calls as $call) {
            $replies[] = $this->runOne($call['command']);
            if (end($replies) instanceof PushException && end($replies)->isUnconfirmed()) {
                // What waits behind a broken link would wait for it once more each.
                return array_pad($replies, count($calls), $this->notSent());
            }
        }
        return $replies;
    }

    private function runOne(array $command): mixed
    {
        try {
            $this->comeBack();
            // It also connects, if there is no connection.
            $this->redis->clearLastError();
        } catch (\RedisException $problem) {
            return Failure::ofConnecting($problem);
        }
        try {
            $reply = $this->redis->rawCommand(...$command);
        } catch (\RedisException $problem) {
            return $this->failure($problem);
        }
        $error = $reply === false ? $this->redis->getLastError() : null;
        return $error !== null ? Failure::ofReply($error) : ($reply === false ? null : $reply);
    }

    /** phpredis throws the same class for an error of Redis and for a broken connection. */
    private function failure(\RedisException $problem): PushException
    {
        $text = $problem->getMessage();
        // A reply begins with a word in capitals, such as NOPERM, OOM or PUSH_ERR_TYPE.
        if (preg_match('/^[A-Z][A-Z_]+( |\z)/', $text) === 1) {
            return Failure::ofReply($text);
        }
        $this->leave();
        return Failure::ofLink($problem);
    }

    /** The answer that is late would be taken for that of the next command. */
    private function leave(): void
    {
        $this->isAstray = true;
        try {
            $this->redis->close();
        } catch (\RedisException) {
            // phpredis throws the failure of the command once more.
        }
    }

    /**
     * phpredis connects again by itself, but to database 0, and not always in step: a late answer to AUTH is enough.
     */
    private function comeBack(): void
    {
        if (!$this->isAstray) {
            return;
        }
        try {
            $database = $this->redis->getDbNum();
            $isThere = $database === 0 || $this->redis->select($database);
            if (!$isThere || !$this->isInStep()) {
                throw new \RedisException('the connection of phpredis is out of step: connect() it again');
            }
        } catch (\RedisException $problem) {
            $this->leave();
            throw $problem;
        }
        $this->isAstray = false;
    }

    private function isInStep(): bool
    {
        $token = bin2hex(random_bytes(8));
        try {
            return $this->redis->rawCommand('ECHO', $token) === $token;
        } catch (\RedisException $problem) {
            // A user without the right to ECHO is told so, which is an answer to this command as well.
            return str_starts_with($problem->getMessage(), 'NOPERM') && str_contains($problem->getMessage(), "'echo'");
        }
    }

    private function notSent(): PushException
    {
        $sentence = 'the connection to Redis broke before this was sent: publish it again';
        return new PushException('PUSH_ERR_BROKER_AWAY', $sentence);
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\Clock;
use FastifyPushBridge\Identity;
use FastifyPushBridge\Json;
use FastifyPushBridge\Message;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Redis\Commands;
use FastifyPushBridge\Result;

/** The Redis contract: PUBLISH or SPUBLISH, FCALL push_publish, and the keys that backends may read and write. */
final class RedisTransport implements Transport
{
    private readonly Receipts $receipts;
    private readonly RedisReader $reader;

    public function __construct(
        private readonly Commands $commands,
        private readonly RedisOptions $options = new RedisOptions(),
    ) {
        $this->receipts = new Receipts($commands, $options);
        $this->reader = new RedisReader($commands, $options);
    }

    public function publish(array $publications): array
    {
        $calls = [];
        $tokens = [];
        foreach ($publications as ['topic' => $topic, 'message' => $message]) {
            $tokens[] = $message->hasReceipt() ? Receipts::newToken() : null;
            $calls[] = $this->callOf($topic, $message, end($tokens));
        }
        $replies = $this->commands->run($calls);
        $deadline = Clock::now() + $this->options->timeout;
        $results = [];
        foreach ($publications as $i => ['topic' => $topic, 'message' => $message]) {
            $sent = $this->sent($replies[$i] ?? null, $message->history() !== null);
            $results[] = $sent instanceof PushException
                ? Result::failed($topic, $sent)
                : Result::of($topic, $this->withAnswers($sent, $tokens[$i], $deadline));
        }
        return $results;
    }

    public function command(string $target, array $command): Result
    {
        $token = Receipts::newToken();
        $envelope = Json::encode($command + ['receipt' => $token], 'the command');
        [$reply] = $this->commands->run([$this->plainCall($target, $envelope)]);
        $sent = $this->sent($reply, false);
        if ($sent instanceof PushException) {
            throw $sent;
        }
        return Result::of($target, $this->withAnswers($sent, $token, Clock::now() + $this->options->timeout));
    }

    public function revoke(string $user): Result
    {
        $key = $this->options->prefix . 'revoked:' . substr($user, strlen('user:'));
        $now = (string) (int) floor(microtime(true) * 1000);
        // Marked first: a node that is just opening a connection finds the mark, or hears the command.
        $this->reader->ask($key, ['SET', $key, $now, 'EX', (string) $this->options->revocationTtl]);
        $result = $this->command($user, ['control' => 'close', 'code' => 4401, 'reason' => 'revoked']);
        // What is issued after this call must be newer than the mark.
        usleep(2000);
        return $result;
    }

    public function ticket(array $identity, int $ttl): string
    {
        $ticket = bin2hex(random_bytes(24));
        $key = $this->options->prefix . "ticket:$ticket";
        $reply = $this->reader->ask($key, ['SET', $key, Identity::encode($identity), 'EX', (string) $ttl, 'NX']);
        if ($reply === null) {
            throw new PushException('PUSH_ERR_INTERNAL', 'Redis did not take the ticket: ask for a new one');
        }
        return $ticket;
    }

    public function members(string $topic, string $cursor, int $count): array
    {
        return $this->reader->members($topic, $cursor, $count);
    }

    public function user(string $user): array
    {
        return $this->reader->user($user);
    }

    public function history(string $topic, array $query): array
    {
        return $this->reader->history($topic, $query);
    }

    public function nodes(): int
    {
        $channel = $this->options->prefix . 'nodes';
        $reply = $this->reader->ask($channel, ['PUBSUB', 'NUMSUB', $channel]);
        return (int) ($reply[1] ?? 0);
    }

    /** @return array{key: string, command: non-empty-list<string>} */
    private function callOf(string $topic, Message $message, ?string $token): array
    {
        $envelope = $message->envelope($token);
        $history = $message->history();
        if ($history === null) {
            return $this->plainCall($topic, $envelope);
        }
        $channel = $this->options->prefix . $topic;
        [$size, $ttl] = [(string) $history['size'], (string) $history['ttl']];
        $command = ['FCALL', 'push_publish', '1', $channel, $envelope, $size, $ttl];
        $key = $message->key();
        return ['key' => $channel, 'command' => $key === null ? $command : [...$command, $key]];
    }

    /** @return array{key: string, command: non-empty-list<string>} */
    private function plainCall(string $topic, string $envelope): array
    {
        $channel = $this->options->prefix . $topic;
        $command = $this->options->sharded ? 'SPUBLISH' : 'PUBLISH';
        return ['key' => $channel, 'command' => [$command, $channel, $envelope]];
    }

    /** @return array<string, mixed>|PushException */
    private function sent(mixed $reply, bool $isRecorded): array|PushException
    {
        if ($reply instanceof PushException) {
            return $reply;
        }
        if (!$isRecorded) {
            return is_int($reply) ? ['nodes' => $reply] : self::unreadable();
        }
        if (!is_array($reply) || count($reply) < 4) {
            return self::unreadable();
        }
        [$id, $seq, $nodes, $duplicate] = $reply;
        $sent = ['nodes' => (int) $nodes, 'id' => (string) $id, 'seq' => (int) $seq];
        return (int) $duplicate === 1 ? $sent + ['duplicate' => true] : $sent;
    }

    /** A repeat reaches nobody, so no node answers its receipt. */
    private function withAnswers(array $sent, ?string $token, float $deadline): array
    {
        if ($token === null || isset($sent['duplicate'])) {
            return $sent;
        }
        return $sent + $this->receipts->collect($token, $sent['nodes'], $deadline);
    }

    private static function unreadable(): PushException
    {
        $sentence = 'Redis gave an answer that is not one of the contract: does another library have its functions?';
        return new PushException('PUSH_ERR_INTERNAL', $sentence);
    }
}

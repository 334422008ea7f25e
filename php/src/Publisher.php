<?php

declare(strict_types=1);

namespace FastifyPushBridge;

use FastifyPushBridge\Redis\PhpRedis;
use FastifyPushBridge\Redis\PhpRedisCluster;
use FastifyPushBridge\Redis\Predis;
use FastifyPushBridge\Transport\HttpTransport;
use FastifyPushBridge\Transport\RedisOptions;
use FastifyPushBridge\Transport\RedisTransport;
use FastifyPushBridge\Transport\Transport;

/**
 * Publishes to connections on any node, and commands them. What cannot be used is refused before anything is sent, by
 * the rules of the nodes. Every call answers within seconds or throws PushException.
 */
final class Publisher
{
    public const MAX_BATCH = 1_000;

    private const MAX_REASON_BYTES = 123;
    private const MAX_TICKET_TTL = 86_400;

    public function __construct(
        private readonly Transport $transport,
        /** `limits.publication` of the nodes. */
        private readonly int $maxBytes = 262_144,
        /** Seconds for which a publication with an idempotency key is tried again; 0 to do that yourself. */
        private readonly float $retryFor = 2.0,
    ) {
    }

    /** Over Redis: phpredis, its RedisCluster, or Predis. */
    public static function redis(
        \Redis|\RedisCluster|\Predis\ClientInterface $redis,
        RedisOptions $options = new RedisOptions(),
    ): self {
        $commands = match (true) {
            $redis instanceof \Redis => new PhpRedis($redis),
            $redis instanceof \RedisCluster => new PhpRedisCluster($redis),
            default => new Predis($redis),
        };
        return new self(new RedisTransport($commands, $options));
    }

    /** Over HTTP: the url of `POST /push` and one of its keys. */
    public static function http(string $url, #[\SensitiveParameter] string $key): self
    {
        return new self(new HttpTransport($url, $key));
    }

    public function publish(string $topic, Message $message): Result
    {
        [$result] = $this->publishAll([[$topic, $message]]);
        return $result->error === null ? $result : throw $result->error;
    }

    /**
     * Up to 1,000 publications. One that fails does not keep the others back: its result has an `error`.
     *
     * @param iterable<array{string, Message}> $batch
     * @return list<Result> in the same order
     */
    public function publishAll(iterable $batch): array
    {
        $results = [];
        $good = [];
        foreach ($batch as [$topic, $message]) {
            if (count($results) === self::MAX_BATCH) {
                throw new PushException(
                    'PUSH_ERR_TOO_LARGE',
                    'the batch has more than 1,000 publications: publish the rest after it',
                );
            }
            $problem = $this->problem($topic, $message);
            if ($problem === null) {
                $good[count($results)] = ['topic' => $topic, 'message' => $message];
            }
            $results[] = $problem === null ? null : Result::failed($topic, $problem);
        }
        return array_replace($results, $this->send($good));
    }

    /** Closes the connections of `user:ID` or `connection:ID`. `delivered()` says how many. */
    public function close(string $target, int $code = 1000, string $reason = ''): Result
    {
        if (!in_array($code, [1000, 1001, 1008, 1009, 1011, 1012, 1013], true) && ($code < 3000 || $code > 4999)) {
            $sentence = 'code is none of 1000, 1001, 1008, 1009, 1011, 1012, 1013 or 3000 to 4999';
            throw new PushException('PUSH_ERR_FIELD', $sentence);
        }
        if (strlen($reason) > self::MAX_REASON_BYTES) {
            throw new PushException('PUSH_ERR_FIELD', 'reason is longer than ' . self::MAX_REASON_BYTES . ' bytes');
        }
        return $this->command($target, ['control' => 'close', 'code' => $code, 'reason' => $reason]);
    }

    /** Closes the connections of `user:ID` with 4401 and keeps out the tickets and identities that it had until now. */
    public function revoke(string $user): Result
    {
        Topic::check($user);
        if (!Topic::isOf($user, 'user')) {
            throw new PushException('PUSH_ERR_TOPIC', "$user is not a user: only user:ID can be revoked");
        }
        return $this->transport->revoke($user);
    }

    /** Subscribes the present connections of `user:ID` or `connection:ID` to a channel. */
    public function subscribe(string $target, string $channel): Result
    {
        return $this->command($target, ['control' => 'subscribe', 'topic' => self::checkChannel($channel)]);
    }

    public function unsubscribe(string $target, string $channel): Result
    {
        return $this->command($target, ['control' => 'unsubscribe', 'topic' => self::checkChannel($channel)]);
    }

    /**
     * A secret with which a page connects once, as `?ticket=…`, good for `ttl` seconds.
     *
     * @param array{user?: string|int, join?: list<string>, allow?: list<string|array>, data?: mixed, info?: mixed,
     *     expires?: int, issuedAt?: int} $identity times in milliseconds since 1970
     */
    public function ticket(array $identity, int $ttl = 30): string
    {
        if ($ttl < 1 || $ttl > self::MAX_TICKET_TTL) {
            $sentence = 'the ttl of a ticket must be a whole number of seconds from 1 to ' . self::MAX_TICKET_TTL;
            throw new PushException('PUSH_ERR_FIELD', $sentence);
        }
        return $this->transport->ticket($identity, $ttl);
    }

    /**
     * A page of who is on a topic: `count` users, `anonymous` connections, `members`, and a `cursor` if there is more.
     *
     * @return array{topic: string, count: int, anonymous: int, members: list<array<string, mixed>>, cursor?: string}
     */
    public function presence(string $topic, string $cursor = '0', int $count = 100): array
    {
        Topic::check($topic);
        if (preg_match('/^\d{1,20}\z/', $cursor) !== 1) {
            throw new PushException('PUSH_ERR_FIELD', 'cursor is not that of another page');
        }
        if ($count < 1 || $count > 1_000) {
            throw new PushException('PUSH_ERR_FIELD', 'count is not a whole number from 1 to 1000');
        }
        return $this->transport->members($topic, $cursor, $count);
    }

    /**
     * All members of a topic, page after page. Somebody who comes or goes meanwhile may be missing or come twice.
     *
     * @return \Generator<int, array<string, mixed>>
     */
    public function members(string $topic): \Generator
    {
        $cursor = '0';
        do {
            $page = $this->presence($topic, $cursor);
            foreach ($page['members'] as $member) {
                yield $member;
            }
            $cursor = $page['cursor'] ?? '0';
        } while ($cursor !== '0');
    }

    /**
     * Whether a user is online, where the nodes have `presence: { users: true }`.
     *
     * @return array{user: string, online: bool, count: int, connections: list<array<string, mixed>>}
     */
    public function user(string $id): array
    {
        $problem = Topic::nameProblem($id);
        if ($problem !== null) {
            throw new PushException('PUSH_ERR_FIELD', "the user $problem");
        }
        return $this->transport->user($id);
    }

    /** Who is online, as pages of `presence('all')`. */
    public function users(string $cursor = '0', int $count = 100): array
    {
        return $this->presence('all', $cursor, $count);
    }

    /**
     * A page of what is kept of a recorded topic: `messages` in order, `complete`, and `next` to ask with as `since`.
     *
     * @param array{since?: string, last?: int, limit?: int} $query
     * @return array<string, mixed>
     */
    public function history(string $topic, array $query = []): array
    {
        Topic::check($topic);
        if (Topic::isOf($topic, 'connection')) {
            throw new PushException('PUSH_ERR_TOPIC', 'connections have no history');
        }
        foreach ($query as $key => $value) {
            $isGood = match ($key) {
                'since' => is_string($value),
                'last', 'limit' => is_int($value) && $value >= 1 && $value <= 100,
                default => throw new PushException(
                    'PUSH_ERR_UNKNOWN_KEY',
                    "unknown key $key: write since, last or limit",
                ),
            };
            if (!$isGood) {
                throw new PushException(
                    'PUSH_ERR_FIELD',
                    $key === 'since' ? 'since is not a string' : "$key is not a whole number from 1 to 100",
                );
            }
        }
        return $this->transport->history($topic, $query);
    }

    /** How many nodes are running: 0 means the wrong Redis, the wrong prefix, or no node. */
    public function nodes(): int
    {
        return $this->transport->nodes();
    }

    private function command(string $target, array $command): Result
    {
        return $this->transport->command(Topic::checkTarget($target), $command);
    }

    private static function checkChannel(string $channel): string
    {
        Topic::check($channel);
        return Topic::isOf($channel, 'channel') ? $channel : throw new PushException(
            'PUSH_ERR_TOPIC',
            "$channel is not a channel",
        );
    }

    private function problem(string $topic, Message $message): ?PushException
    {
        $problem = Topic::problem($topic);
        if ($problem !== null) {
            return new PushException('PUSH_ERR_TOPIC', $problem);
        }
        if ($message->history() !== null && Topic::isOf($topic, 'connection')) {
            return new PushException('PUSH_ERR_FIELD', "$topic is never recorded, because it ends with the connection");
        }
        $bytes = strlen($message->envelope($message->hasReceipt() ? str_repeat('-', 24) : null));
        return $bytes > $this->maxBytes
            ? new PushException(
                'PUSH_ERR_TOO_LARGE',
                "the publication has $bytes bytes; limits.publication allows $this->maxBytes",
            )
            : null;
    }

    /**
     * With an idempotency key a repeat is harmless, so what got no answer is sent again for a while.
     *
     * @param array<int, array{topic: string, message: Message}> $items
     * @return array<int, Result> under the same keys
     */
    private function send(array $items): array
    {
        $deadline = Clock::now() + $this->retryFor;
        $results = [];
        for ($wait = 0.02; $items !== []; $wait = min($wait * 2, 0.5)) {
            $results = array_replace($results, $this->sendOnce($items));
            $isToRepeat = fn (array $item, int $i): bool => self::isToRepeat($item, $results[$i]);
            $items = array_filter($items, $isToRepeat, ARRAY_FILTER_USE_BOTH);
            if (Clock::now() + $wait > $deadline) {
                break;
            }
            if ($items !== []) {
                usleep((int) ($wait * 1e6));
            }
        }
        return $results;
    }

    private function sendOnce(array $items): array
    {
        try {
            return array_combine(array_keys($items), $this->transport->publish(array_values($items)));
        } catch (PushException $problem) {
            return array_map(static fn (array $item) => Result::failed($item['topic'], $problem), $items);
        }
    }

    private static function isToRepeat(array $item, Result $result): bool
    {
        $error = $result->error;
        return $item['message']->key() !== null && $error !== null && ($error->isAway() || $error->isUnconfirmed());
    }
}

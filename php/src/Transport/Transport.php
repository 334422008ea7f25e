<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\Message;
use FastifyPushBridge\Result;

/** How a publisher reaches the nodes. What it is given was checked before. Everything throws PushException. */
interface Transport
{
    /**
     * @param list<array{topic: string, message: Message}> $publications
     * @return list<Result> in the same order; an item that failed has an error
     */
    public function publish(array $publications): array;

    /**
     * Commands the connections of a `user:ID` or `connection:ID` on every node.
     *
     * @param array{control: string, code?: int, reason?: string, topic?: string} $command
     */
    public function command(string $target, array $command): Result;

    /** `user` is a topic, `user:ID`. */
    public function revoke(string $user): Result;

    /** @param array<string, mixed> $identity */
    public function ticket(array $identity, int $ttl): string;

    /**
     * @return array{topic: string, count: int, anonymous: int, members: list<array<string, mixed>>, cursor?: string}
     */
    public function members(string $topic, string $cursor, int $count): array;

    /** @return array{user: string, online: bool, count: int, connections: list<array<string, mixed>>} */
    public function user(string $user): array;

    /**
     * @param array{since?: string, last?: int, limit?: int} $query
     * @return array<string, mixed> topic, id, seq, messages, complete, and perhaps next and gap
     */
    public function history(string $topic, array $query): array;

    /** How many nodes are running, as far as this transport can know. */
    public function nodes(): int;
}

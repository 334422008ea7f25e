<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests\Frameworks;

use FastifyPushBridge\Identity;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Result;
use FastifyPushBridge\Transport\Transport;

/** Keeps what it is told, as the push API would get it. */
final class RecordingTransport implements Transport
{
    /** @var list<array<string, mixed>> */
    public array $published = [];
    /** @var list<array<string, mixed>> */
    public array $tickets = [];
    public ?PushException $failure = null;

    public function publish(array $publications): array
    {
        $results = [];
        foreach ($publications as ['topic' => $topic, 'message' => $message]) {
            $this->published[] = json_decode($message->request($topic), true);
            $results[] = $this->failure === null ? Result::of($topic, []) : Result::failed($topic, $this->failure);
        }
        return $results;
    }

    public function ticket(array $identity, int $ttl): string
    {
        Identity::check($identity);
        $this->tickets[] = $identity;
        return $this->failure === null ? 'ticket-' . count($this->tickets) : throw $this->failure;
    }

    public function command(string $target, array $command): Result
    {
        throw new \LogicException('no framework commands');
    }

    public function revoke(string $user): Result
    {
        throw new \LogicException('no framework revokes');
    }

    public function members(string $topic, string $cursor, int $count): array
    {
        throw new \LogicException('no framework asks');
    }

    public function user(string $user): array
    {
        throw new \LogicException('no framework asks');
    }

    public function history(string $topic, array $query): array
    {
        throw new \LogicException('no framework asks');
    }

    public function nodes(): int
    {
        throw new \LogicException('no framework asks');
    }
}

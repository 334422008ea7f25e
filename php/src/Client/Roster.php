<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** Who is on a topic, kept up to date while the client runs. */
final class Roster
{
    /** @var array<array-key, array<string, mixed>> */
    private array $members = [];
    /** @var array<array-key, array<string, mixed>>|null a list that comes in parts, until it is whole */
    private ?array $parts = null;
    private int $count = 0;
    private int $anonymous = 0;
    private bool $isKnown = false;
    private bool $isPartial = false;

    /** @return list<array<string, mixed>> each with user, connections, since and perhaps info */
    public function members(): array
    {
        return array_values($this->members);
    }

    public function get(string $user): ?array
    {
        return $this->members[$user] ?? null;
    }

    /** How many users there are, also if there are too many for a list. */
    public function count(): int
    {
        return $this->count;
    }

    /** How many connections have no user. */
    public function anonymous(): int
    {
        return $this->anonymous;
    }

    /** False until the server has sent the list, and after a disconnection until it sends it again. */
    public function isKnown(): bool
    {
        return $this->isKnown;
    }

    /** Only the numbers are kept, because there are too many users; `members` has some of them. */
    public function isPartial(): bool
    {
        return $this->isPartial;
    }

    public function reset(): void
    {
        $this->isKnown = false;
        $this->parts = null;
    }

    /** @param array<string, mixed> $message a list, or a change of it */
    public function take(array $message): void
    {
        if (is_array($message['members'] ?? null)) {
            $before = ($message['continued'] ?? false) === true ? $this->parts ?? [] : [];
            $this->parts = self::byUser($message['members']) + $before;
            if (($message['more'] ?? false) === true) {
                return;
            }
        }
        $next = $this->parts ?? $this->members;
        $this->parts = null;
        foreach (['joined', 'updated'] as $kind) {
            $next = array_replace($next, self::byUser((array) ($message[$kind] ?? [])));
        }
        foreach (array_filter((array) ($message['left'] ?? []), is_string(...)) as $user) {
            unset($next[$user]);
        }
        $this->members = $next;
        $this->count = (int) ($message['count'] ?? 0);
        $this->anonymous = (int) ($message['anonymous'] ?? 0);
        $this->isPartial = ($message['partial'] ?? false) === true;
        $this->isKnown = true;
    }

    private static function byUser(array $members): array
    {
        $found = [];
        foreach ($members as $member) {
            if (is_string($member['user'] ?? null)) {
                $found[$member['user']] = $member;
            }
        }
        return $found;
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Json;

/**
 * The positions of the topics that the client has, or had on the connection before: what is a repeat, what is a hole.
 */
final class Positions
{
    /** Proxies accept 8 KB, and the rest of the request line needs space too. */
    private const MAX_IN_URL = 4_000;
    /** Far more than a server gives a connection; one that goes on for ever must not fill the memory. */
    private const MAX_TOPICS = 10_000;

    /** @var array<string, Place> */
    private array $places = [];
    /** An older server would refuse the question. */
    private bool $hasHistory = true;

    /** @param array<string, string> $restored */
    public function __construct(array $restored)
    {
        foreach (array_filter($restored, is_string(...)) as $topic => $id) {
            $place = $this->place((string) $topic);
            $place->id = $id;
            $place->isRestored = true;
            $place->own = [];
        }
    }

    /** @return array<string, string> */
    public function ids(): array
    {
        $isKept = static fn (Place $it): bool => ($it->isHeld || $it->isRestored) && $it->id !== null;
        return array_map(static fn (Place $it) => (string) $it->id, array_filter($this->places, $isKept));
    }

    /** For each new connection: JSON for its URL, with as many topics of its own as fit; empty if there is none. */
    public function forUrl(): string
    {
        $places = $this->places;
        // The topics of the user come first.
        $rank = static fn ($topic): bool => str_starts_with((string) $topic, 'channel:');
        uksort($places, static fn ($a, $b) => $rank($a) <=> $rank($b));
        $since = [];
        foreach ($places as $topic => $place) {
            $longer = $since + [$topic => $place->id];
            $length = strlen(rawurlencode((string) json_encode($longer)));
            $place->isAsked = $place->own !== null && $place->id !== null && $length < self::MAX_IN_URL;
            if ($place->isAsked) {
                $since = $longer;
            }
        }
        return $since === [] ? '' : Json::encode($since, 'since');
    }

    /**
     * Reads the topics of a welcome.
     *
     * @param \Closure(string): bool $isWanted
     * @param list<string> $features
     * @return list<string> topics whose missed messages must still be asked for
     */
    public function welcomed(array $topics, \Closure $isWanted, array $features): array
    {
        $this->hasHistory = in_array('history', $features, true);
        foreach ($this->places as $topic => $place) {
            $isHeld = $isWanted((string) $topic);
            // Topics that the server gave the last connection are kept for one more: it may give them again.
            if (!$isHeld && !$place->isHeld && !$place->isRestored) {
                unset($this->places[$topic]);
            }
            $place->isHeld = $isHeld;
            $place->own = null;
            $place->next = null;
            // The server may send live messages of a topic before it sends the position.
            $place->isAhead = $place->id !== null;
            $place->hasLetGo = $place->isBeginning = false;
            $place->questions = 0;
        }
        $behind = [];
        foreach (array_slice($topics, 0, self::MAX_TOPICS, true) as $topic => $state) {
            $this->place((string) $topic)->own = (array) $state;
            if (!$this->answered((string) $topic, (array) $state)) {
                $behind[] = (string) $topic;
            }
        }
        return $behind;
    }

    /** What the welcome said about a topic that this connection has without subscribing. */
    public function own(string $topic): ?array
    {
        return ($this->places[$topic] ?? null)?->own;
    }

    /** The next subscription to the topic shall bring the newest messages, unless one came before. */
    public function begin(string $topic, int $last): void
    {
        $place = $this->place($topic);
        if ($place->last === null) {
            $place->first = $last;
        }
    }

    /** Whether the newest messages of a topic are wanted that the connection has without subscribing. */
    public function isToBegin(string $topic): bool
    {
        return $this->hasHistory && ($this->places[$topic] ?? null)?->first !== null;
    }

    /** The newest messages are refused. True if others were ignored meanwhile, which must still be asked for. */
    public function isBehind(string $topic): bool
    {
        $place = $this->place($topic);
        $place->first = null;
        return $place->isAhead;
    }

    /**
     * The question of a subscription that is about to be sent.
     *
     * @return array{since?: string, last?: int}
     */
    public function ask(string $topic): array
    {
        $place = $this->place($topic);
        $place->isHeld = true;
        $place->questions++;
        if (!$this->hasHistory) {
            $place->first = null;
        }
        $last = $place->first;
        // Without a message, the id is that of a welcome: the newest messages come before it.
        $place->isBeginning = $last !== null && !$place->isRestored;
        $place->isAsked = $place->id !== null && !$place->isBeginning;
        if ($place->isBeginning) {
            $place->isAhead = true;
        }
        return ($place->isAsked ? ['since' => $place->id] : []) + ($last === null ? [] : ['last' => $last]);
    }

    /** Whether a question about the topic waits for its answer. */
    public function isAsking(string $topic): bool
    {
        return (($this->places[$topic] ?? null)?->questions ?? 0) > 0;
    }

    /** A question got no answer: the missed messages must still be asked for. */
    public function failed(string $topic): void
    {
        $place = $this->places[$topic] ?? null;
        if ($place === null) {
            return;
        }
        $place->isAsked = false;
        if ($place->isBeginning) {
            $place->isBeginning = false;
            $place->isAhead = $place->hasLetGo;
        }
        $place->questions = max(0, $place->questions - 1);
    }

    /**
     * The server sends the position of a topic, unasked if `isNew`. False if the missed messages must still be asked
     * for: until then live messages are ignored.
     */
    public function answered(string $topic, array $state, bool $isNew = false): bool
    {
        $isRoom = isset($this->places[$topic]) || count($this->places) < self::MAX_TOPICS;
        $place = $isNew && $isRoom ? $this->place($topic) : ($this->places[$topic] ?? null);
        // The topic was left meanwhile.
        if ($place === null) {
            return true;
        }
        $recovered = is_bool($state['recovered'] ?? null) ? $state['recovered'] : null;
        $isAsked = $place->isAsked && !$isNew;
        // The question had `last` as well, or everything follows: the server has said what comes.
        if ($place->isRestored && $recovered !== null && ($recovered || $place->questions > 0)) {
            $place->first = null;
        }
        $place->isHeld = true;
        $place->isRestored = false;
        if (!$isNew) {
            $place->questions = max(0, $place->questions - 1);
        }
        return $place->isBeginning
            ? $isNew || $this->begun($place, $state)
            : $this->placed($place, $state['id'] ?? null, $recovered, $isAsked);
    }

    private function placed(Place $place, mixed $id, ?bool $recovered, bool $isAsked): bool
    {
        // It answers a question that had no `since`: the missed messages come with a later answer.
        if ($isAsked && $place->questions > 0 && $recovered === null) {
            return true;
        }
        $isElsewhere = $id !== $place->id || $place->hasLetGo;
        $place->isAhead = $place->id !== null && !$isAsked && $recovered === null && $isElsewhere;
        if ($place->isAhead) {
            return false;
        }
        $place->hasLetGo = false;
        // If everything follows, `id` is the head: a lost connection would lose what has not arrived yet.
        if ($recovered === false) {
            $place->next = is_string($id) ? $id : null;
            $place->last = null;
        } elseif ($recovered === null && !$isAsked) {
            $this->move($place, $id);
        }
        return true;
    }

    /** A gap was told: continues from its positions, or from that of the answer before it: the missed messages will not come. */
    public function lost(mixed $topics, mixed $positions): void
    {
        foreach (is_array($topics) ? $topics : [] as $topic) {
            $place = is_string($topic) ? ($this->places[$topic] ?? null) : null;
            $position = is_array($positions) && $place !== null ? ($positions[$topic] ?? null) : null;
            $id = ((array) $position)['id'] ?? $place?->next;
            if ($place !== null && $id !== null) {
                $this->move($place, $id);
            }
        }
    }

    /** Whether a message is to be handed out: not if it was before, or if it will come again in order. */
    public function take(?string $topic, mixed $id): bool
    {
        $place = $topic === null ? null : ($this->places[$topic] ?? null);
        if ($place === null || !is_string($id)) {
            return true;
        }
        if ($place->isAhead) {
            $place->hasLetGo = true;
            return false;
        }
        if ($place->last !== null && Position::isCovered($id, $place->last)) {
            return false;
        }
        $place->id = $place->last = $id;
        $place->first = $place->next = null;
        return true;
    }

    public function forget(string $topic): void
    {
        unset($this->places[$topic]);
    }

    /**
     * The newest messages follow. Until one is here, the head is no position to continue from, unless there are none.
     */
    private function begun(Place $place, array $state): bool
    {
        $place->isBeginning = $place->isAhead = $place->hasLetGo = false;
        $place->last = null;
        if (($state['seq'] ?? null) === 0) {
            $place->first = null;
            $this->move($place, $state['id'] ?? null);
        }
        return true;
    }

    private function place(string $topic): Place
    {
        return $this->places[$topic] ??= new Place();
    }

    /** Forgets `last`, because the next message may belong to another history with lower numbers. */
    private function move(Place $place, mixed $id): void
    {
        if (is_string($id)) {
            $place->id = $id;
        }
        $place->last = $place->next = null;
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Clock;
use FastifyPushBridge\PushException;

/** The wanted topics, and what was asked for and answered on the present connection. */
final class Topics
{
    /** A server handles a limited number of messages of a client at a time and refuses more. */
    private const MAX_UNANSWERED = 16;
    /** The server itself gives up a question after 30 s. */
    private const ANSWER_WITHIN = 40.0;
    private const MAX_DELAY = 30.0;
    /** Another attempt would get the same answer. Other refusals are temporary. */
    private const FINAL = '/^PUSH_ERR_(FORBIDDEN|TOPIC|BAD_MESSAGE|UNSUBSCRIBED)\z/';

    /** @var array<string, bool> whether each was asked for on the present connection */
    private array $wanted = [];
    /** @var array<string, true> topics to ask for when earlier ones are answered */
    private array $queue = [];
    /** @var array<int, array{topic: string, presence: bool, until: float}> by ref */
    private array $asked = [];
    /** @var array<string, Roster> */
    private array $rosters = [];
    private ?float $retryAt = null;
    private int $refusals = 0;
    private bool $isOpen = false;

    /** @param \Closure(array<string, mixed>): int $send sends a `subscribe` and gives its ref */
    public function __construct(private readonly Positions $positions, private readonly \Closure $send)
    {
    }

    public function want(string $topic, ?int $last): void
    {
        if (isset($this->wanted[$topic])) {
            return;
        }
        if ($last !== null) {
            $this->positions->begin($topic, $last);
        }
        $this->wanted[$topic] = false;
        $this->joinAll();
    }

    public function roster(string $topic): Roster
    {
        $isNew = !isset($this->rosters[$topic]);
        $this->rosters[$topic] ??= new Roster();
        if ($isNew && $this->isOpen) {
            $this->askWhoIsThere($topic);
        }
        return $this->rosters[$topic];
    }

    public function forget(string $topic): void
    {
        unset($this->wanted[$topic], $this->queue[$topic], $this->rosters[$topic]);
        $this->positions->forget($topic);
    }

    /** JSON that is nested too deeply for PHP was a message of any topic. Null while the connection has none. */
    public function unreadable(?array $welcome): ?array
    {
        $own = (array) ($welcome['topics'] ?? []);
        $topics = array_map(strval(...), array_keys($this->wanted + $own));
        return $topics === [] ? null : ['type' => 'gap', 'payload' => ['topics' => $topics, 'reason' => 'rejected']];
    }

    public function isWanted(string $topic): bool
    {
        return isset($this->wanted[$topic]);
    }

    /** The connection was welcomed. @param list<string> $behind topics whose missed messages must be asked for */
    public function begin(array $behind): void
    {
        $this->isOpen = true;
        foreach ($behind as $topic) {
            $this->queue[$topic] = true;
        }
        foreach (array_keys($this->rosters) as $topic) {
            $this->askWhoIsThere((string) $topic);
        }
        $this->joinAll();
    }

    /** The connection is lost: nothing that was asked on it will be answered. */
    public function reset(): void
    {
        $this->isOpen = false;
        $this->asked = [];
        $this->queue = [];
        $this->retryAt = null;
        $this->refusals = 0;
        $this->wanted = array_map(static fn () => false, $this->wanted);
        array_walk($this->rosters, static fn (Roster $roster) => $roster->reset());
    }

    /** The server said `subscribed`. */
    public function answered(array $state, mixed $ref): void
    {
        $question = $this->questionOf($ref);
        $topic = $state['topic'] ?? null;
        if (isset($state['presence']) || ($question['presence'] ?? false)) {
            $this->present($state['presence'] ?? null);
        } elseif (is_string($topic) && !$this->positions->answered($topic, $state, $ref === null)) {
            $this->queue[$topic] = true;
        }
        $this->askNext();
    }

    /** Who is on a topic, or what has changed of it. */
    public function present(mixed $message): void
    {
        $topic = is_array($message) ? $message['topic'] ?? null : null;
        if (is_string($topic) && isset($this->rosters[$topic])) {
            $this->rosters[$topic]->take($message);
        }
    }

    /** The server unsubscribed the topic. If a question about it is under way, the answer to that decides. */
    public function left(string $topic): void
    {
        if (!$this->isWanted($topic) || !$this->positions->isAsking($topic)) {
            $this->forget($topic);
        }
    }

    /**
     * The server refused what has this ref. Null if that was no question about a topic.
     *
     * @return array{topic: string, isFinal: bool, isMissed: bool}|null `isMissed`: messages are lost by it
     */
    public function refused(PushException $error, mixed $ref): ?array
    {
        $question = $this->questionOf($ref);
        if ($question === null) {
            return null;
        }
        ['topic' => $topic, 'presence' => $isPresence] = $question;
        $isFinal = preg_match(self::FINAL, $error->errorCode) === 1;
        $isMissed = false;
        if ($isPresence) {
            $this->refusedRoster($topic, $isFinal);
        } else {
            $isMissed = $this->refusedTopic($topic, $isFinal);
        }
        $this->askNext();
        return ['topic' => $topic, 'isFinal' => $isFinal, 'isMissed' => $isMissed];
    }

    /** Asks again for what was refused for a while. @throws LinkLost if a question goes unanswered */
    public function tick(float $now): void
    {
        foreach ($this->asked as $question) {
            if ($now > $question['until']) {
                throw new LinkLost(CloseCode::ABNORMAL, "no answer to subscribe {$question['topic']}");
            }
        }
        if ($this->retryAt === null || $now < $this->retryAt) {
            return;
        }
        $this->retryAt = null;
        foreach ($this->rosters as $topic => $roster) {
            if (!$roster->isKnown()) {
                $this->askWhoIsThere((string) $topic);
            }
        }
        $this->joinAll();
    }

    private function joinAll(): void
    {
        if (!$this->isOpen) {
            return;
        }
        foreach ($this->wanted as $topic => $isAsked) {
            if ($isAsked) {
                continue;
            }
            $this->wanted[$topic] = true;
            if ($this->positions->own((string) $topic) === null || $this->positions->isToBegin((string) $topic)) {
                $this->queue[$topic] = true;
            }
        }
        $this->askNext();
    }

    private function askNext(): void
    {
        foreach (array_keys($this->queue) as $topic) {
            if (!$this->isOpen || count($this->asked) >= self::MAX_UNANSWERED) {
                return;
            }
            unset($this->queue[$topic]);
            $this->ask((string) $topic, $this->positions->ask((string) $topic), false);
        }
    }

    private function askWhoIsThere(string $topic): void
    {
        $this->ask($topic, ['presence' => true], true);
    }

    private function ask(string $topic, array $question, bool $isPresence): void
    {
        $ref = ($this->send)(['topic' => $topic] + $question);
        $until = Clock::now() + self::ANSWER_WITHIN;
        $this->asked[$ref] = ['topic' => $topic, 'presence' => $isPresence, 'until' => $until];
    }

    private function questionOf(mixed $ref): ?array
    {
        $question = is_int($ref) ? $this->asked[$ref] ?? null : null;
        if ($question !== null) {
            unset($this->asked[$ref]);
        }
        return $question;
    }

    private function refusedRoster(string $topic, bool $isFinal): void
    {
        if ($isFinal) {
            unset($this->rosters[$topic]);
        } else {
            $this->retryLater();
        }
    }

    private function refusedTopic(string $topic, bool $isFinal): bool
    {
        if (!$this->isWanted($topic)) {
            // The messages that were ignored meanwhile will not come again.
            $this->positions->answered($topic, ['recovered' => false]);
            return true;
        }
        $this->positions->failed($topic);
        if (!$isFinal) {
            $this->wanted[$topic] = false;
            $this->retryLater();
        } elseif ($this->positions->own($topic) === null) {
            $this->forget($topic);
        } else {
            // A topic that the client has without subscribing keeps its position.
            unset($this->wanted[$topic]);
            if ($this->positions->isBehind($topic)) {
                $this->queue[$topic] = true;
            }
        }
        return false;
    }

    /** At random, so that many clients do not ask together; at least half, because the cause may last. */
    private function retryLater(): void
    {
        $most = min(self::MAX_DELAY, 2.0 ** min($this->refusals++, 10));
        $this->retryAt ??= Clock::now() + (1 + Backoff::random()) / 2 * $most;
    }
}

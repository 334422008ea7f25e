<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Clock;
use FastifyPushBridge\Json;
use FastifyPushBridge\Message;
use FastifyPushBridge\PushException;

/** One client from the first attempt to its end: connects, comes back, and hands out what is new. */
final class Session
{
    /** Seconds for the welcome, from the beginning of an attempt. */
    private const WELCOME_WITHIN = 20.0;
    private const STABLE_AFTER = 10.0;
    private const UNREACHABLE_AFTER = 3;
    private const MAX_AFTER = 3_600.0;

    /** `waiting` for the next attempt, `connecting` until the welcome, `open`, `closed` for good. */
    private string $state = 'waiting';
    private ?Link $link = null;
    /** The link is over; what it had brought before is taken first. */
    private ?LinkLost $lost = null;
    private ?LinkLost $end = null;
    private readonly Backoff $backoff;
    private readonly Inbox $inbox;
    private readonly Credentials $credentials;
    public readonly Positions $positions;
    public readonly Topics $topics;
    private ?array $welcome = null;
    private float $nextAttemptAt = 0.0;
    private float $welcomeBy = 0.0;
    private ?float $stableAt = null;
    private ?float $after = null;
    private int $unwelcomed = 0;
    private int $lastRef = 0;
    private ?int $renewal = null;

    /** @param \Closure(PushException, bool): void $report what went wrong; true: the application must know */
    public function __construct(
        private readonly Address $address,
        private readonly Options $options,
        private readonly \Closure $report,
    ) {
        $this->backoff = new Backoff($options->random);
        $this->inbox = new Inbox();
        $this->credentials = new Credentials($options, $report);
        $this->positions = new Positions($options->since);
        $this->topics = new Topics($this->positions, fn (array $payload) => $this->sendQuestion('subscribe', $payload));
    }

    public function state(): string
    {
        return $this->state;
    }

    public function welcome(): ?array
    {
        return $this->welcome;
    }

    /** Which link it is: what belongs to one must not be sent on the next. */
    public function link(): ?Link
    {
        return $this->lost === null ? $this->link : null;
    }

    public function end(): ?LinkLost
    {
        return $this->end;
    }

    /** Does what is due, waits at most so many seconds for a message, and returns it if it is for the application. */
    public function step(float $seconds): ?array
    {
        try {
            if ($this->link === null) {
                $this->connectOrWait($seconds);
                return null;
            }
            $frame = $this->inbox->shift();
            if ($frame === null && $this->lost !== null) {
                throw $this->lost;
            }
            $frame ??= $this->readFrame($seconds);
            return $frame === null ? null : $this->dispatch($frame);
        } catch (LinkLost $lost) {
            $this->lose($lost);
            return null;
        }
    }

    /** Sends a message. False if there is no connection: then nothing was sent. */
    public function send(string $type, mixed $payload, ?int $ref = null): bool
    {
        $message = ['type' => $type, 'payload' => $payload] + ($ref === null ? [] : ['ref' => $ref]);
        $text = Json::encode($message, 'payload');
        if ($this->link === null || $this->lost !== null) {
            return false;
        }
        try {
            $this->link->write(Frame::TEXT, $text);
            return true;
        } catch (LinkLost $lost) {
            $this->lost = $lost;
            return false;
        }
    }

    /** Sends a message and waits for the answer with its ref; what else comes waits for step(). */
    public function request(string $type, mixed $payload, float $timeout): mixed
    {
        $ref = ++$this->lastRef;
        if ($this->state !== 'open' || !$this->send($type, $payload, $ref)) {
            throw new PushException('CLOSED', 'the client is not connected');
        }
        try {
            return $this->inbox->await($this->link, $ref, $timeout)->payload;
        } catch (LinkLost $lost) {
            $this->lost = $lost;
            throw new PushException('CLOSED', "the connection was lost before the answer to $type", $lost);
        }
    }

    public function close(int $code, string $reason): void
    {
        if ($this->state === 'closed') {
            return;
        }
        $link = $this->link;
        $this->finish(new LinkLost($code, $reason));
        $link?->close($code, $reason);
    }

    /** Without a ref the answer would look like an unsubscription by the server. */
    public function sendQuestion(string $type, array $payload): int
    {
        $this->send($type, $payload, ++$this->lastRef);
        return $this->lastRef;
    }

    private function connectOrWait(float $seconds): void
    {
        if ($this->nextAttemptAt > Clock::now()) {
            usleep((int) (max(0.0, min($this->nextAttemptAt - Clock::now(), $seconds)) * 1e6));
            return;
        }
        $this->state = 'connecting';
        $this->after = null;
        $this->welcomeBy = Clock::now() + self::WELCOME_WITHIN;
        $parameters = $this->credentials->parameters();
        $since = $this->positions->forUrl();
        if ($since !== '') {
            $parameters['since'] = $since;
        }
        $first = $this->credentials->first();
        $this->link = Link::open($this->address, $parameters, $this->options);
        if ($first !== null) {
            $this->sendQuestion('authenticate', $first);
        }
    }

    private function readFrame(float $seconds): ?Frame
    {
        $now = Clock::now();
        if ($this->state === 'connecting' && $now > $this->welcomeBy) {
            throw new LinkLost(CloseCode::ABNORMAL, 'no welcome came');
        }
        if ($this->stableAt !== null && $now > $this->stableAt) {
            $this->stableAt = null;
            $this->backoff->reset();
        }
        $this->topics->tick($now);
        // A question that cannot be sent has ended the link.
        return $this->lost === null ? $this->link->read($seconds) : throw $this->lost;
    }

    /** @return array<string, mixed>|null a message for the application */
    private function dispatch(Frame $frame): ?array
    {
        $message = $frame->opcode === Frame::TEXT ? Json::decodeArray($frame->payload) : null;
        $type = $message['type'] ?? null;
        if (!is_string($type)) {
            ($this->report)(new PushException('INVALID', 'the server sent what is no message of this protocol'), false);
            return $message === null && $frame->opcode === Frame::TEXT ? $this->topics->unreadable($this->welcome) : null;
        }
        $payload = is_array($message['payload'] ?? null) ? $message['payload'] : [];
        $ref = $message['ref'] ?? null;
        switch ($type) {
            case 'welcome':
                $this->begin($payload);
                return null;
            case 'subscribed':
                $this->topics->answered($payload, $ref);
                return null;
            case 'unsubscribed':
                if ($ref === null && is_string($payload['topic'] ?? null)) {
                    $this->topics->left($payload['topic']);
                }
                return null;
            case 'error':
                return $this->refused($payload, $ref);
            case 'gap':
                $this->positions->lost($payload['topics'] ?? null, $payload['positions'] ?? null);
                return $message;
            case 'push.presence':
                $this->topics->present($payload);
                return $message;
            case 'reconnect':
                $this->obey($payload['after'] ?? null);
                return null;
            case 'push.expiring':
                $this->renew();
                return null;
            default:
                return $this->published($type, $message);
        }
    }

    /** What is reserved for the protocol, now or later, is never given to the application as a published message. */
    private function published(string $type, array $message): ?array
    {
        $topic = is_string($message['topic'] ?? null) ? $message['topic'] : null;
        return !Message::isReserved($type) && $this->positions->take($topic, $message['id'] ?? null) ? $message : null;
    }

    private function begin(array $welcome): void
    {
        if ($this->state !== 'connecting' || !is_string($welcome['connection'] ?? null)) {
            return;
        }
        $before = $this->welcome;
        $this->welcome = $welcome;
        $user = $before['user'] ?? null;
        if (is_string($user) && $user !== ($welcome['user'] ?? null)) {
            $this->positions->forget("user:$user");
        }
        $isWanted = fn (string $topic): bool => $this->topics->isWanted($topic);
        [$topics, $features] = [(array) ($welcome['topics'] ?? []), (array) ($welcome['features'] ?? [])];
        $behind = $this->positions->welcomed($topics, $isWanted, $features);
        $interval = $welcome['heartbeat']['interval'] ?? null;
        $this->link->watch(is_int($interval) ? $interval / 1000 : 25.0);
        $this->state = 'open';
        $this->unwelcomed = 0;
        $this->stableAt = Clock::now() + self::STABLE_AFTER;
        $this->topics->begin($behind);
    }

    private function refused(array $payload, mixed $ref): ?array
    {
        $error = Answer::error($payload);
        $question = $this->topics->refused($error, $ref);
        if ($question === null) {
            // An answer that came too late, a message without a ref, or a new identity that was refused.
            ($this->report)($error, $this->renewal !== null && $ref === $this->renewal);
            return null;
        }
        ($this->report)($error, $question['isFinal']);
        $gap = ['topics' => [$question['topic']], 'reason' => 'overload'];
        return $question['isMissed'] ? ['type' => 'gap', 'payload' => $gap] : null;
    }

    private function obey(mixed $after): void
    {
        if ((is_int($after) || is_float($after)) && $after >= 0) {
            $this->after = min($after / 1000, self::MAX_AFTER);
        }
    }

    /** The identity is about to expire: without a new one the server closes, and a new connection brings one. */
    private function renew(): void
    {
        try {
            $fresh = $this->credentials->fresh();
            $this->renewal = $fresh === null ? null : $this->sendQuestion('authenticate', $fresh);
        } catch (LinkLost) {
            // It was reported, and the present identity goes on until it ends.
        }
    }

    private function lose(LinkLost $lost): void
    {
        if ($this->state === 'closed') {
            return;
        }
        $code = $lost->closeCode;
        CloseCode::isOfClient($code) ? $this->link?->close($code, '') : $this->link?->drop();
        if (!CloseCode::shouldReconnect($code)) {
            $this->finish($lost);
            return;
        }
        $this->detach();
        $this->state = 'waiting';
        $delay = $this->after ?? $this->backoff->next($lost->retryAfter ?? 0.0);
        $this->after = null;
        $this->nextAttemptAt = Clock::now() + $delay;
        if (++$this->unwelcomed === self::UNREACHABLE_AFTER) {
            $sentence = "$this->unwelcomed attempts in a row brought no welcome: {$lost->getMessage()}";
            ($this->report)(new PushException('CONNECT', $sentence, $lost), false);
        }
    }

    private function finish(LinkLost $end): void
    {
        $this->detach();
        $this->state = 'closed';
        $this->end = $end;
    }

    private function detach(): void
    {
        $this->link = null;
        $this->lost = null;
        $this->stableAt = null;
        $this->renewal = null;
        $this->inbox->clear();
        $this->topics->reset();
    }
}

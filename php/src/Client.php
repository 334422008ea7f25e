<?php

declare(strict_types=1);

namespace FastifyPushBridge;

use FastifyPushBridge\Client\Address;
use FastifyPushBridge\Client\CloseCode;
use FastifyPushBridge\Client\Link;
use FastifyPushBridge\Client\Options;
use FastifyPushBridge\Client\Roster;
use FastifyPushBridge\Client\Session;

/**
 * A WebSocket client for programs that run: workers and commands. It connects, comes back, and gets what it missed. It
 * does so only while one of its methods runs, so a program that computes for longer than the heartbeat of the server
 * (35 s) is disconnected and comes back.
 */
final class Client
{
    /** So long one wait lasts at most, so that stop() of a signal handler is noticed. */
    private const SLICE = 1.0;

    private readonly Session $session;
    /** @var array<string, list<callable>> */
    private array $handlers = [];
    /** @var (callable(PushException): mixed)|null */
    private $onError = null;
    /** @var array{Link, string}|null what to acknowledge, and where it came from */
    private ?array $toAck = null;
    private bool $isStopped = false;
    private ?PushException $problem = null;

    public function __construct(string $url, Options $options = new Options())
    {
        $report = fn (PushException $problem, bool $isFinal) => $this->report($problem, $isFinal);
        $this->session = new Session(Address::of($url), $options, $report);
    }

    /**
     * Subscribes, again after every reconnect. `last`, 1 to 100: the newest messages of a recorded topic come first.
     */
    public function subscribe(string $topic, ?int $last = null): void
    {
        Topic::check($topic);
        if ($last !== null && ($last < 1 || $last > 100)) {
            throw new PushException('PUSH_ERR_FIELD', 'last is not a whole number from 1 to 100');
        }
        $this->session->topics->want($topic, $last);
    }

    /** Leaves the topic and forgets its position. */
    public function unsubscribe(string $topic): void
    {
        $this->session->topics->forget(Topic::check($topic));
        if ($this->session->state() === 'open') {
            $this->session->sendQuestion('unsubscribe', ['topic' => $topic]);
        }
    }

    /** Who is on a topic, kept up to date while the client runs. It does not subscribe the topic. */
    public function presence(string $topic): Roster
    {
        return $this->session->topics->roster(Topic::check($topic));
    }

    /**
     * Calls `handler(payload, message)` in run() for each message of a type, or of any with `*`. A `gap` says that
     * messages of some topics were or may have been missed: load their state again.
     */
    public function on(string $type, callable $handler): void
    {
        $this->handlers[$type][] = $handler;
    }

    /**
     * Calls `handler(PushException)` for what goes wrong while nobody waits for it. Without one, a topic that is refused
     * for good is thrown by next(), and what another attempt may repair is passed over.
     */
    public function onError(callable $handler): void
    {
        $this->onError = $handler;
    }

    /**
     * The next message, waiting for it at most so many seconds; null if none came. A message is an array with `type` and
     * `payload`, and `topic`, `seq`, `id` and `from` if it has them. The message before is acknowledged by this call.
     *
     * @return array<string, mixed>|null
     * @throws PushException CLOSED when the client is closed for good; `status` is the close code
     */
    public function next(float $timeout): ?array
    {
        $this->acknowledge();
        $this->throwProblem();
        $until = Clock::now() + $timeout;
        do {
            $end = $this->session->end();
            if ($end !== null) {
                $sentence = "the client is closed: $end->closeCode {$end->getMessage()}";
                throw new PushException('CLOSED', trim($sentence), $end, $end->closeCode);
            }
            $message = $this->session->step(max(0.0, min($until - Clock::now(), self::SLICE)));
            if ($message !== null) {
                return $this->handOut($message);
            }
            $this->throwProblem();
        } while (Clock::now() < $until && !$this->isStopped);
        return null;
    }

    /**
     * Messages as they come, for so many seconds or without an end. It ends quietly when the connection is closed with
     * 1000, by either side.
     *
     * @return \Generator<int, array<string, mixed>>
     */
    public function messages(?float $seconds = null): \Generator
    {
        $this->isStopped = false;
        $until = $seconds === null ? INF : Clock::now() + $seconds;
        do {
            $message = $this->nextUnlessEnded(min(self::SLICE, max(0.0, $until - Clock::now())));
            if ($message !== null) {
                yield $message;
            }
        } while (Clock::now() < $until && !$this->isStopped && !$this->isEnded());
        // The last message was handled too.
        $this->acknowledge();
    }

    /** The same with the handlers of on(). What a handler throws comes out, and its message is not acknowledged. */
    public function run(?float $seconds = null): void
    {
        foreach ($this->messages($seconds) as $message) {
            $toAck = $this->toAck;
            $this->toAck = null;
            $handlers = [...$this->handlers[$message['type']] ?? [], ...$this->handlers['*'] ?? []];
            foreach ($handlers as $handler) {
                $handler($message['payload'] ?? null, $message);
            }
            $this->toAck = $handlers === [] ? null : $toAck;
        }
    }

    /** Lets run() and messages() end, from a handler or the handler of a signal. The connection stays. */
    public function stop(): void
    {
        $this->isStopped = true;
    }

    /** False if it is not connected: then nothing was sent. */
    public function send(string $type, mixed $payload = new \stdClass()): bool
    {
        return $this->session->state() === 'open' && $this->session->send($type, $payload);
    }

    /**
     * Sends a message and waits for the reply of its handler. Messages that come meanwhile wait for next().
     *
     * @throws PushException the error of the server, or CLOSED, TIMEOUT, BUSY
     */
    public function request(string $type, mixed $payload = new \stdClass(), float $timeout = 10.0): mixed
    {
        $this->waitUntilOpen($timeout);
        return $this->session->request($type, $payload, $timeout);
    }

    /**
     * Publishes to everybody on a topic that this client has, where the server lets clients do that. With a `key`,
     * publishing again does nothing.
     *
     * @return array{topic: string, id?: string, seq?: int}
     */
    public function publish(string $topic, string $type, mixed $payload = new \stdClass(), ?string $key = null): array
    {
        $publication = ['topic' => Topic::check($topic), 'type' => $type, 'payload' => $payload];
        return $this->request('push.publish', $publication + ($key === null ? [] : ['key' => $key]));
    }

    /** Closes for good. */
    public function close(int $code = CloseCode::NORMAL, string $reason = ''): void
    {
        if (($code !== CloseCode::NORMAL && ($code < 3000 || $code > 4999)) || strlen($reason) > 123) {
            throw new PushException(
                'PUSH_ERR_FIELD',
                'code is not 1000 or 3000 to 4999, or reason is longer than 123 bytes',
            );
        }
        $this->acknowledge();
        $this->session->close($code, $reason);
    }

    /** `waiting` between two attempts, `connecting`, `open` or `closed`. */
    public function state(): string
    {
        return $this->session->state();
    }

    /** What the server said when it last welcomed this client. @return array<string, mixed>|null */
    public function welcome(): ?array
    {
        return $this->session->welcome();
    }

    /**
     * The `id` of the last message of each recorded topic that was handed out: keep it after you have handled the
     * message, and give it to the next client as `since`.
     *
     * @return array<string, string>
     */
    public function positions(): array
    {
        return $this->session->positions->ids();
    }

    private function nextUnlessEnded(float $timeout): ?array
    {
        try {
            return $this->next($timeout);
        } catch (PushException $problem) {
            return $problem->errorCode === 'CLOSED' && $problem->status === CloseCode::NORMAL ? null : throw $problem;
        }
    }

    private function isEnded(): bool
    {
        return $this->session->end()?->closeCode === CloseCode::NORMAL;
    }

    /** Before the first welcome a request would always fail. */
    private function waitUntilOpen(float $timeout): void
    {
        $until = Clock::now() + $timeout;
        while ($this->session->welcome() === null && $this->session->end() === null && Clock::now() < $until) {
            // Nothing is handed out before the welcome.
            $this->session->step(min(self::SLICE, max(0.0, $until - Clock::now())));
        }
    }

    private function handOut(array $message): array
    {
        $link = $this->session->link();
        $token = $message['ack'] ?? null;
        $this->toAck = is_string($token) && $link !== null ? [$link, $token] : null;
        unset($message['ack'], $message['ref']);
        return $message;
    }

    /** Not on another connection: its server does not know the token. */
    private function acknowledge(): void
    {
        $toAck = $this->toAck;
        $this->toAck = null;
        if ($toAck !== null && $toAck[0] === $this->session->link()) {
            $this->session->send('ack', ['token' => $toAck[1]]);
        }
    }

    private function report(PushException $problem, bool $isFinal): void
    {
        if ($this->onError !== null) {
            ($this->onError)($problem);
        } elseif ($isFinal) {
            $this->problem = $problem;
        }
    }

    /** Not thrown where it was noticed: there the rest of the message would be lost. */
    private function throwProblem(): void
    {
        $problem = $this->problem;
        $this->problem = null;
        if ($problem !== null) {
            throw $problem;
        }
    }
}

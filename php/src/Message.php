<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/**
 * What is published: `Message::of('notice', ['text' => 'hi'])`. Each method returns a changed copy; what is wrong is
 * refused at once, before anything is sent.
 */
final class Message
{
    private const TYPE = '~^[A-Za-z0-9_.:/-]{1,128}\z~';
    private const RESERVED = [
        'welcome', 'ping', 'pong', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'reply', 'error', 'gap',
        'reconnect', 'ack', 'authenticate', 'authenticated', 'presence', 'history',
    ];
    private const MAX_SIZE = 100_000;
    private const MAX_TTL = 366 * 86_400;
    private const MAX_KEY_BYTES = 200;
    private const MAX_EXCEPT = 100;
    private const MAX_SEQ = 2 ** 53 - 1;

    /** @var array<string, mixed> members of the envelope besides type and payload */
    private array $fields = [];
    /** @var array{size: int, ttl: int}|null */
    private ?array $history = null;
    private ?string $key = null;
    private bool $wantsReceipt = false;
    private bool $wantsAck = false;

    private function __construct(public readonly string $type, private readonly string $payload)
    {
    }

    /** `payload`: anything that is JSON. An empty array is `[]`; for `{}` write `(object) []`. */
    public static function of(string $type, mixed $payload = new \stdClass()): self
    {
        $problem = self::typeProblem($type);
        if ($problem !== null) {
            throw new PushException('PUSH_ERR_TYPE', $problem);
        }
        if (self::isReserved($type)) {
            $sentence = "type \"$type\" is reserved for the protocol: choose another";
            throw new PushException('PUSH_ERR_RESERVED_TYPE', $sentence);
        }
        return new self($type, Json::encode($payload, 'payload'));
    }

    public static function typeProblem(string $type): ?string
    {
        return preg_match(self::TYPE, $type) === 1 ? null : 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -';
    }

    public static function isReserved(string $type): bool
    {
        return in_array($type, self::RESERVED, true) || str_starts_with($type, 'push.');
    }

    /**
     * Kept for those who are offline: the topic keeps its newest `size` messages for `ttl` seconds. Publishing again
     * with the same idempotency `key` on the same topic does nothing.
     */
    public function recorded(int $size, int $ttl, ?string $key = null): self
    {
        if ($size < 1 || $size > self::MAX_SIZE) {
            throw self::wrong('size is not a whole number from 1 to ' . self::MAX_SIZE);
        }
        if ($ttl < 1 || $ttl > self::MAX_TTL) {
            throw self::wrong('ttl is not a whole number of seconds from 1 to ' . self::MAX_TTL);
        }
        if ($key !== null && ($key === '' || strlen($key) > self::MAX_KEY_BYTES || preg_match('//u', $key) !== 1)) {
            throw self::wrong('the idempotency key is not 1 to ' . self::MAX_KEY_BYTES . ' bytes of UTF-8');
        }
        $copy = clone $this;
        $copy->history = ['size' => $size, 'ttl' => $ttl];
        $copy->key = $key;
        return $copy;
    }

    /** Waits until every node that gets it has said how many connections it queued it for. */
    public function withReceipt(): self
    {
        $copy = clone $this;
        $copy->wantsReceipt = true;
        return $copy;
    }

    /** Waits also for the clients: how many have handled it in time. */
    public function withAck(): self
    {
        $copy = $this->withReceipt();
        $copy->wantsAck = true;
        return $copy;
    }

    /** Users and connections that do not get it. */
    public function except(string ...$topics): self
    {
        if (count($topics) > self::MAX_EXCEPT) {
            $number = count($topics);
            throw self::wrong("except names $number topics; at most " . self::MAX_EXCEPT . ' can be skipped');
        }
        foreach ($topics as $topic) {
            $problem = Topic::problem($topic);
            if ($problem !== null) {
                throw self::wrong("except: $problem");
            }
            if (!Topic::isOf($topic, 'user', 'connection')) {
                throw self::wrong('except: ' . Topic::quote($topic) . ' is neither user:ID nor connection:ID');
            }
        }
        return $this->with('except', array_values($topics));
    }

    /** For whom it is published; null for an anonymous visitor. Clients get it with the message. */
    public function from(?string $user): self
    {
        $problem = $user === null ? null : Topic::nameProblem($user);
        if ($problem !== null) {
            throw self::wrong("from.user $problem");
        }
        return $this->with('from', ['user' => $user]);
    }

    /** Your own number, passed on as information. A recorded topic has numbers of its own. */
    public function numbered(int $seq): self
    {
        if ($seq < 0 || $seq > self::MAX_SEQ) {
            throw self::wrong('seq is not an integer from 0 to 2^53 - 1');
        }
        return $this->with('seq', $seq);
    }

    /** @return array{size: int, ttl: int}|null */
    public function history(): ?array
    {
        return $this->history;
    }

    public function key(): ?string
    {
        return $this->key;
    }

    public function hasReceipt(): bool
    {
        return $this->wantsReceipt;
    }

    /** The envelope for Redis. `receipt` is the token for the answers of the nodes. */
    public function envelope(?string $receipt): string
    {
        $rest = $this->fields;
        if ($receipt !== null) {
            $rest['receipt'] = $receipt;
        }
        if ($this->wantsAck) {
            $rest['ack'] = true;
        }
        return $this->text($rest);
    }

    /** The same as an item of `POST /push`. */
    public function request(string $topic): string
    {
        $rest = ['to' => $topic] + $this->fields;
        if ($this->wantsReceipt) {
            $rest['receipt'] = true;
        }
        if ($this->wantsAck) {
            $rest['ack'] = true;
        }
        if ($this->history !== null) {
            $rest['history'] = $this->history;
        }
        if ($this->key !== null) {
            $rest['idempotencyKey'] = $this->key;
        }
        return $this->text($rest);
    }

    /** The payload was encoded once, however many topics it goes to. */
    private function text(array $rest): string
    {
        $head = "{\"type\":\"$this->type\",\"payload\":$this->payload";
        return $rest === [] ? "$head}" : "$head," . substr(Json::encode($rest, 'the message'), 1);
    }

    private function with(string $field, mixed $value): self
    {
        $copy = clone $this;
        $copy->fields[$field] = $value;
        return $copy;
    }

    private static function wrong(string $sentence): PushException
    {
        return new PushException('PUSH_ERR_FIELD', $sentence);
    }
}

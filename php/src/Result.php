<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/** What became of one publication or command. */
final class Result
{
    private function __construct(
        public readonly string $topic,
        /** @var array<string, mixed> as the push API answers it */
        private readonly array $values,
        /** Of an item of a batch that failed. */
        public readonly ?PushException $error = null,
    ) {
    }

    /** @param array<string, mixed> $values */
    public static function of(string $topic, array $values): self
    {
        return new self($topic, $values);
    }

    public static function failed(string $topic, PushException $error): self
    {
        return new self($topic, [], $error);
    }

    /** How many nodes were listening: a hint. 0: nobody is there. */
    public function nodes(): int
    {
        return (int) ($this->values['nodes'] ?? 0);
    }

    /** With a receipt: for how many connections it was queued; null without one. */
    public function delivered(): ?int
    {
        return $this->values['delivered'] ?? null;
    }

    public function skipped(): ?int
    {
        return $this->values['skipped'] ?? null;
    }

    /** With an ack: how many clients have handled it in time. */
    public function acknowledged(): ?int
    {
        return $this->values['acknowledged'] ?? null;
    }

    /** With a receipt: false when a node had not answered in time. */
    public function isComplete(): bool
    {
        return $this->values['complete'] ?? true;
    }

    /** Of a recorded publication. */
    public function id(): ?string
    {
        return $this->values['id'] ?? null;
    }

    public function seq(): ?int
    {
        return $this->values['seq'] ?? null;
    }

    /** It had been recorded before with the same key: nothing was published now. */
    public function isDuplicate(): bool
    {
        return $this->values['duplicate'] ?? false;
    }

    /** @return array<string, int> how many connections were skipped for which reason */
    public function reasons(): array
    {
        return $this->values['reasons'] ?? [];
    }

    /** @return list<array{node: string, reason: string, message: string}> nodes that could not use it, and why */
    public function rejected(): array
    {
        return $this->values['rejected'] ?? [];
    }

    /** @return array<string, mixed> all of it, as the push API answers it */
    public function toArray(): array
    {
        $error = $this->error === null
            ? []
            : ['error' => ['code' => $this->error->errorCode, 'message' => $this->error->getMessage()]];
        return ['topic' => $this->topic] + $this->values + $error;
    }
}

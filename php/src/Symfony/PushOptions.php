<?php

declare(strict_types=1);

namespace FastifyPushBridge\Symfony;

use FastifyPushBridge\Topic;
use Symfony\Component\Notifier\Message\MessageOptionsInterface;

/** To whom a ChatMessage goes, and what pages get besides its subject. */
final class PushOptions implements MessageOptionsInterface
{
    /** @param array<string, mixed> $data members of the payload */
    public function __construct(
        private readonly string $topic,
        private readonly string $type = PushTransport::TYPE,
        private readonly array $data = [],
    ) {
        Topic::check($topic);
    }

    /** @return array{type: string, data: array<string, mixed>} */
    public function toArray(): array
    {
        return ['type' => $this->type, 'data' => $this->data];
    }

    public function getRecipientId(): ?string
    {
        return $this->topic;
    }
}

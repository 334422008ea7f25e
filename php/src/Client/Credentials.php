<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\PushException;

/** What the application gives to prove who it is, at every attempt and before the identity expires. */
final class Credentials
{
    /** @param \Closure(PushException, bool): void $report */
    public function __construct(private readonly Options $options, private readonly \Closure $report)
    {
    }

    /** @return array<string, string> for the URL */
    public function parameters(): array
    {
        return $this->options->ticket === null ? [] : ['ticket' => (string) $this->ask($this->options->ticket)];
    }

    /** The payload of the first message, where the server takes the identity from that. */
    public function first(): ?array
    {
        return $this->options->authenticate === null ? null : $this->ask($this->options->authenticate);
    }

    /** The payload of `authenticate` on an open connection; null if the application gave nothing to renew. */
    public function fresh(): ?array
    {
        return $this->options->ticket === null ? $this->first() : ['ticket' => $this->ask($this->options->ticket)];
    }

    /** It may fail, like a server that is away: the next attempt asks again. */
    private function ask(\Closure $ask): mixed
    {
        try {
            return $ask();
        } catch (\Throwable $problem) {
            $sentence = "ticket or authenticate failed: {$problem->getMessage()}";
            ($this->report)(new PushException('TICKET', $sentence, $problem), false);
            throw new LinkLost(CloseCode::ABNORMAL, 'ticket or authenticate failed');
        }
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\PushException;

/** What came while a request waited for its reply. It keeps its order and waits for its turn, up to a bound. */
final class Inbox
{
    private const MAX_FRAMES = 10_000;
    private const MAX_BYTES = 16 * 1024 * 1024;

    /** @var \SplQueue<Frame> */
    private \SplQueue $frames;
    private int $bytes = 0;

    public function __construct()
    {
        $this->frames = new \SplQueue();
    }

    /** Before more is read: what is read must have room. */
    public function checkRoom(): void
    {
        if (count($this->frames) >= self::MAX_FRAMES || $this->bytes >= self::MAX_BYTES) {
            throw new PushException('BUSY', 'too many messages came during this request: take them with next() first');
        }
    }

    public function push(Frame $frame): void
    {
        $this->frames->enqueue($frame);
        $this->bytes += strlen($frame->payload);
    }

    public function shift(): ?Frame
    {
        if ($this->frames->isEmpty()) {
            return null;
        }
        $frame = $this->frames->dequeue();
        $this->bytes -= strlen($frame->payload);
        return $frame;
    }

    public function clear(): void
    {
        $this->frames = new \SplQueue();
        $this->bytes = 0;
    }
}

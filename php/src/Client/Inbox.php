<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Clock;
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

    /** Reads until the answer with this ref comes, and keeps what else does. @throws LinkLost */
    public function await(Link $link, int $ref, float $timeout): Answer
    {
        $until = Clock::now() + $timeout;
        do {
            // What is read must have room.
            if (count($this->frames) >= self::MAX_FRAMES || $this->bytes >= self::MAX_BYTES) {
                throw new PushException(
                    'BUSY',
                    'too many messages came during this request: take them with next() first',
                );
            }
            $frame = $link->read(max(0.0, $until - Clock::now()));
            $answer = $frame === null ? null : Answer::in($frame, $ref);
            if ($answer !== null) {
                return $answer;
            }
            if ($frame !== null) {
                $this->frames->enqueue($frame);
                $this->bytes += strlen($frame->payload);
            }
        } while (Clock::now() < $until);
        throw new PushException('TIMEOUT', "no answer came in $timeout s");
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

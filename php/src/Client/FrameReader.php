<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** Makes messages of the bytes of a server, in whichever pieces they come. */
final class FrameReader
{
    /** What was read is cut off only now and then: to copy the rest for each of many small frames would be slow. */
    private const CUT_AT = 65_536;

    private string $bytes = '';
    private int $at = 0;
    /** The message whose parts are coming. */
    private ?int $opcode = null;
    private string $parts = '';

    /** `maxMessage`: the most bytes of one message. */
    public function __construct(private readonly int $maxMessage)
    {
    }

    public function push(string $bytes): void
    {
        if ($this->at >= self::CUT_AT || $this->at === strlen($this->bytes)) {
            $this->bytes = substr($this->bytes, $this->at);
            $this->at = 0;
        }
        $this->bytes .= $bytes;
    }

    /**
     * The next message, ping, pong or close; null if it is not whole yet.
     *
     * @throws LinkLost for what violates RFC 6455, and for what is too large
     */
    public function next(): ?Frame
    {
        while (($frame = $this->frame()) !== null) {
            [$opcode, $isFinal, $payload] = $frame;
            if ($opcode >= Frame::CLOSE) {
                return $this->control($opcode, $payload);
            }
            $message = $this->collect($opcode, $isFinal, $payload);
            if ($message !== null) {
                return $message;
            }
        }
        return null;
    }

    /** @return array{int, bool, string}|null */
    private function frame(): ?array
    {
        $there = strlen($this->bytes) - $this->at;
        if ($there < 2) {
            return null;
        }
        $first = ord($this->bytes[$this->at]);
        $second = ord($this->bytes[$this->at + 1]);
        $opcode = $first & 0x0F;
        $isFinal = ($first & 0x80) !== 0;
        $short = $second & 0x7F;
        $this->check($first, $second, $opcode, $short);
        $head = match ($short) {
            126 => 4,
            127 => 10,
            default => 2,
        };
        if ($there < $head) {
            return null;
        }
        $length = $this->length($short);
        $before = $opcode < Frame::CLOSE ? strlen($this->parts) : 0;
        if ($length < 0 || $before + $length > $this->maxMessage) {
            throw new LinkLost(CloseCode::TOO_BIG, "the server sent a message of more than $this->maxMessage bytes");
        }
        if ($there < $head + $length) {
            return null;
        }
        $payload = substr($this->bytes, $this->at + $head, $length);
        $this->at += $head + $length;
        return [$opcode, $isFinal, $payload];
    }

    private function length(int $short): int
    {
        return match ($short) {
            126 => (int) unpack('n', $this->bytes, $this->at + 2)[1],
            127 => (int) unpack('J', $this->bytes, $this->at + 2)[1],
            default => $short,
        };
    }

    private function check(int $first, int $second, int $opcode, int $short): void
    {
        $isControl = $opcode >= Frame::CLOSE;
        $problem = match (true) {
            ($first & 0x70) !== 0 => 'a frame with a reserved bit',
            ($second & 0x80) !== 0 => 'a masked frame',
            !in_array($opcode, [0x0, 0x1, 0x2, 0x8, 0x9, 0xA], true) => "a frame of the unknown kind $opcode",
            $isControl && (($first & 0x80) === 0 || $short > 125) => 'a control frame that is too long or in parts',
            !$isControl && ($opcode === Frame::CONTINUATION) !== ($this->opcode !== null) =>
                'parts of messages in a wrong order',
            default => null,
        };
        if ($problem !== null) {
            throw new LinkLost(CloseCode::PROTOCOL_ERROR, "the server sent $problem");
        }
    }

    private function collect(int $opcode, bool $isFinal, string $payload): ?Frame
    {
        $this->opcode ??= $opcode;
        $this->parts .= $payload;
        if (!$isFinal) {
            return null;
        }
        $message = new Frame($this->opcode, $this->parts);
        $this->opcode = null;
        $this->parts = '';
        if ($message->opcode === Frame::TEXT && preg_match('//u', $message->payload) !== 1) {
            throw new LinkLost(CloseCode::INVALID_TEXT, 'the server sent a text that is not UTF-8');
        }
        return $message;
    }

    private function control(int $opcode, string $payload): Frame
    {
        $frame = new Frame($opcode, $payload);
        if ($opcode !== Frame::CLOSE || $payload === '') {
            return $frame;
        }
        if (strlen($payload) < 2 || !CloseCode::isSendable($frame->closing()[0])) {
            throw new LinkLost(CloseCode::PROTOCOL_ERROR, 'the server sent a close frame without a valid code');
        }
        return $frame;
    }
}

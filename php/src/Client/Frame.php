<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** RFC 6455: one frame or whole message. */
final class Frame
{
    public const CONTINUATION = 0x0;
    public const TEXT = 0x1;
    public const BINARY = 0x2;
    public const CLOSE = 0x8;
    public const PING = 0x9;
    public const PONG = 0xA;

    public function __construct(public readonly int $opcode, public readonly string $payload)
    {
    }

    /** As bytes. A client masks every frame, so that proxies cannot take it for something else. */
    public static function encode(int $opcode, string $payload): string
    {
        $length = strlen($payload);
        $head = chr(0x80 | $opcode) . match (true) {
            $length < 126 => chr(0x80 | $length),
            $length < 65_536 => chr(0x80 | 126) . pack('n', $length),
            default => chr(0x80 | 127) . pack('J', $length),
        };
        $mask = random_bytes(4);
        return $head . $mask . ($payload ^ substr(str_repeat($mask, intdiv($length, 4) + 1), 0, $length));
    }

    public static function encodeClose(int $code, string $reason): string
    {
        return self::encode(self::CLOSE, pack('n', $code) . $reason);
    }

    /**
     * Of a close frame that came. 1005 stands for none.
     *
     * @return array{int, string}
     */
    public function closing(): array
    {
        return $this->payload === ''
            ? [CloseCode::NO_CODE, '']
            : [(int) unpack('n', $this->payload)[1], substr($this->payload, 2)];
    }
}

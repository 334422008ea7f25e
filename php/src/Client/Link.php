<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\Clock;
use FastifyPushBridge\Warnings;

/** One WebSocket over a stream of PHP, and whether its other end still lives. Every wait has an end. */
final class Link
{
    private const PING_EVERY = 25.0;
    private const PONG_WITHIN = 10.0;
    private const MISSED_PONGS = 2;
    private const WRITE_WITHIN = 5.0;
    private const CLOSE_WITHIN = 1.0;
    private const READ_AT_ONCE = 65_536;
    /** So much is read before the messages in it are looked at. */
    private const READ_AHEAD = 16;
    private const OVERTIME = 0.05;

    private readonly FrameReader $reader;
    private float $pingEvery = self::PING_EVERY;
    private float $heardAt;
    private ?float $pingedAt = null;
    private int $unanswered = 0;

    /** @param resource $stream */
    private function __construct(private $stream, int $maxMessage)
    {
        $this->reader = new FrameReader($maxMessage);
        $this->heardAt = Clock::now();
    }

    /**
     * @param array<string, string> $parameters of the URL besides its own
     * @throws LinkLost
     */
    public static function open(Address $address, array $parameters, Options $options): self
    {
        $deadline = Clock::now() + $options->connectTimeout;
        $context = stream_context_create(['ssl' => $options->tls($address)]);
        $stream = self::connect($address, $options->connectTimeout, $context);
        $link = new self($stream, $options->maxMessage);
        try {
            $link->shakeHands($address, $parameters, $options, $deadline);
        } catch (LinkLost $problem) {
            $link->drop();
            throw $problem;
        }
        return $link;
    }

    /** Starts to watch whether the server lives. `interval`: seconds of its own heartbeat. */
    public function watch(float $interval): void
    {
        $this->pingEvery = max(1.0, min(self::PING_EVERY, $interval));
    }

    /**
     * The next message of the server, waiting for it at most so many seconds. Pings are answered here.
     *
     * @throws LinkLost when the connection is over
     */
    public function read(float $timeout): ?Frame
    {
        $until = Clock::now() + $timeout;
        while (true) {
            $frame = $this->reader->next();
            if ($frame !== null && ($frame->opcode === Frame::TEXT || $frame->opcode === Frame::BINARY)) {
                return $frame;
            }
            if ($frame !== null) {
                $this->obey($frame);
            }
            // Even if the server sends nothing but pings, or a message that never ends, this call does.
            if (($frame !== null || $this->receive()) && Clock::now() < $until + self::OVERTIME) {
                continue;
            }
            $this->checkLife();
            $left = $until - Clock::now();
            if ($left <= 0) {
                return null;
            }
            $this->wait(min($left, $this->untilPing()));
        }
    }

    /** @throws LinkLost when it cannot be written in time */
    public function write(int $opcode, string $payload): void
    {
        $this->writeBytes(Frame::encode($opcode, $payload), self::WRITE_WITHIN);
    }

    /** Says why, waits for a moment until the server has read it, and ends the connection. */
    public function close(int $code, string $reason): void
    {
        try {
            $this->writeBytes(Frame::encodeClose($code, $reason), self::CLOSE_WITHIN);
            // To close a socket with unread bytes in it would reset it, and the close frame would be lost.
            Warnings::kept(fn () => stream_socket_shutdown($this->stream, STREAM_SHUT_WR));
            $until = Clock::now() + self::CLOSE_WITHIN;
            while (!feof($this->stream) && Clock::now() < $until) {
                if ($this->bytes() === '') {
                    $this->wait(max(0.0, $until - Clock::now()));
                }
            }
        } catch (LinkLost) {
            // It is over either way.
        }
        $this->drop();
    }

    public function drop(): void
    {
        if (is_resource($this->stream)) {
            Warnings::kept(fn () => fclose($this->stream));
        }
    }

    /**
     * PHP tells why a certificate was refused in the first of several warnings.
     *
     * @param resource $context
     * @return resource
     */
    private static function connect(Address $address, float $timeout, $context)
    {
        $warnings = [];
        $message = '';
        $stream = Warnings::kept(static function () use ($address, &$message, $timeout, $context) {
            $flags = STREAM_CLIENT_CONNECT;
            return stream_socket_client($address->socket(), $code, $message, $timeout, $flags, $context);
        }, $warnings);
        if ($stream === false) {
            $said = implode('; ', $warnings === [] ? [$message] : $warnings);
            throw new LinkLost(CloseCode::ABNORMAL, "no connection to {$address->hostHeader()}: $said");
        }
        return $stream;
    }

    private function shakeHands(Address $address, array $parameters, Options $options, float $deadline): void
    {
        $handshake = new Handshake();
        $left = max(0.1, $deadline - Clock::now());
        $this->writeBytes($handshake->request($address, $parameters, $options->headers), $left);
        $bytes = '';
        while (($end = strpos($bytes, "\r\n\r\n")) === false) {
            if (strlen($bytes) > Handshake::MAX_HEAD) {
                throw new LinkLost(CloseCode::ABNORMAL, 'the server answered with too many headers');
            }
            $bytes .= $this->readSome($deadline, 'the server did not answer the upgrade in time');
        }
        $head = substr($bytes, 0, $end);
        $rest = substr($bytes, $end + 4);
        if (!str_starts_with($head, 'HTTP/1.1 101')) {
            $rest .= $this->readBody($deadline, $rest);
        }
        $handshake->check($head, $rest);
        $this->reader->push($rest);
    }

    /** What a refusal says, as far as it comes within a moment: it is for people only. */
    private function readBody(float $deadline, string $rest): string
    {
        $body = '';
        $until = min($deadline, Clock::now() + 0.5);
        try {
            while (strlen($body) < Handshake::MAX_HEAD && json_decode($rest . $body) === null) {
                $body .= $this->readSome($until, '');
            }
        } catch (LinkLost) {
            // The status is enough.
        }
        return $body;
    }

    /** What is there to be read just now. */
    private function bytes(): string
    {
        return (string) Warnings::kept(fn () => fread($this->stream, self::READ_AT_ONCE));
    }

    private function readSome(float $deadline, string $problem): string
    {
        while (true) {
            $bytes = $this->bytes();
            if ($bytes !== '') {
                return $bytes;
            }
            $left = $deadline - Clock::now();
            if (feof($this->stream) || $left <= 0) {
                throw new LinkLost(CloseCode::ABNORMAL, $left <= 0 ? $problem : 'the server ended the connection');
            }
            $this->wait($left);
        }
    }

    /** Whether something came. */
    private function receive(): bool
    {
        $hasCome = false;
        for ($i = 0; $i < self::READ_AHEAD; $i++) {
            $bytes = $this->bytes();
            if ($bytes === '') {
                break;
            }
            $hasCome = true;
            $this->reader->push($bytes);
        }
        if ($hasCome) {
            $this->heardAt = Clock::now();
            $this->pingedAt = null;
            $this->unanswered = 0;
        } elseif (feof($this->stream)) {
            throw new LinkLost(CloseCode::ABNORMAL, 'the connection was lost');
        }
        return $hasCome;
    }

    /** Nothing has come: asks the server for a sign of life, or gives it up. */
    private function checkLife(): void
    {
        if ($this->untilPing() > 0) {
            return;
        }
        if ($this->pingedAt !== null && ++$this->unanswered >= self::MISSED_PONGS) {
            throw new LinkLost(CloseCode::ABNORMAL, self::MISSED_PONGS . ' pings went unanswered');
        }
        $this->pingedAt = Clock::now();
        $this->write(Frame::TEXT, '{"type":"ping"}');
    }

    private function untilPing(): float
    {
        $due = $this->pingedAt === null ? $this->heardAt + $this->pingEvery : $this->pingedAt + self::PONG_WITHIN;
        return max(0.0, $due - Clock::now());
    }

    private function obey(Frame $frame): void
    {
        if ($frame->opcode === Frame::PING) {
            $this->write(Frame::PONG, $frame->payload);
            return;
        }
        if ($frame->opcode !== Frame::CLOSE) {
            return;
        }
        [$code, $reason] = $frame->closing();
        try {
            $this->writeBytes(Frame::encode(Frame::CLOSE, substr($frame->payload, 0, 2)), self::CLOSE_WITHIN);
        } catch (LinkLost) {
            // The server may be gone already; its close frame is what counts.
        }
        throw new LinkLost($code, $reason);
    }

    /** Blocking, because a TLS stream must be given the same bytes again when it could not take them. */
    private function writeBytes(string $bytes, float $within): void
    {
        $until = Clock::now() + $within;
        stream_set_blocking($this->stream, true);
        stream_set_timeout($this->stream, (int) $within, (int) (fmod($within, 1.0) * 1e6));
        for ($at = 0; $at < strlen($bytes);) {
            $rest = $at === 0 ? $bytes : substr($bytes, $at);
            $written = Warnings::kept(fn () => fwrite($this->stream, $rest));
            if ($written === false || $written === 0 || Clock::now() > $until) {
                throw new LinkLost(CloseCode::ABNORMAL, 'the connection was lost while something was written');
            }
            $at += $written;
        }
        stream_set_blocking($this->stream, false);
    }

    private function wait(float $seconds): void
    {
        $read = [$this->stream];
        $none = null;
        $microseconds = (int) (fmod($seconds, 1.0) * 1e6);
        // A signal interrupts it with a warning: the loop around it looks again.
        Warnings::kept(static function () use ($read, $none, $seconds, $microseconds): void {
            stream_select($read, $none, $none, (int) $seconds, $microseconds);
        });
    }
}

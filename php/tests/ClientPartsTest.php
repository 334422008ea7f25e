<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests;

use FastifyPushBridge\Client\Address;
use FastifyPushBridge\Client\Backoff;
use FastifyPushBridge\Client\CloseCode;
use FastifyPushBridge\Client\Frame;
use FastifyPushBridge\Client\FrameReader;
use FastifyPushBridge\Client\Handshake;
use FastifyPushBridge\Client\LinkLost;
use FastifyPushBridge\Client\Options;
use FastifyPushBridge\Client\Positions;
use FastifyPushBridge\Client\Roster;
use FastifyPushBridge\PushException;
use PHPUnit\Framework\TestCase;

final class ClientPartsTest extends TestCase
{
    /** A frame of a server, which masks nothing. */
    private static function bytes(int $first, string $payload): string
    {
        $length = strlen($payload);
        $head = match (true) {
            $length < 126 => chr($length),
            $length < 65_536 => chr(126) . pack('n', $length),
            default => chr(127) . pack('J', $length),
        };
        return chr($first) . $head . $payload;
    }

    private static function lossOf(\Closure $call): ?int
    {
        try {
            $call();
            return null;
        } catch (LinkLost $lost) {
            return $lost->closeCode;
        }
    }

    /** @return list<array{int, string}> */
    private static function read(FrameReader $reader): array
    {
        $frames = [];
        while (($frame = $reader->next()) !== null) {
            $frames[] = [$frame->opcode, $frame->payload];
        }
        return $frames;
    }

    public function testFramesAreTheSameInWhicheverPiecesTheyCome(): void
    {
        $expected = [
            [Frame::TEXT, 'hallo'], [Frame::PING, 'p'], [Frame::TEXT, 'Käse 辣'], [Frame::BINARY, str_repeat("\0\xff", 200)],
            [Frame::TEXT, str_repeat('x', 70_000)], [Frame::TEXT, ''], [Frame::CLOSE, pack('n', 4401) . 'revoked'],
        ];
        $split = strpos('Käse', "\xa4");
        $stream = self::bytes(0x81, 'hallo')
            // In parts, cut inside of a character, with a ping between them.
            . self::bytes(0x01, substr('Käse 辣', 0, $split)) . self::bytes(0x89, 'p') . self::bytes(0x00, substr('Käse 辣', $split, 3))
            . self::bytes(0x80, substr('Käse 辣', $split + 3)) . self::bytes(0x82, str_repeat("\0\xff", 200))
            . self::bytes(0x81, str_repeat('x', 70_000)) . self::bytes(0x81, '') . self::bytes(0x88, pack('n', 4401) . 'revoked');
        foreach ([1, 2, 3, 7, 1000, 65_536, strlen($stream)] as $size) {
            $reader = new FrameReader(1 << 20);
            $frames = [];
            foreach (str_split($stream, $size) as $piece) {
                $reader->push($piece);
                array_push($frames, ...self::read($reader));
            }
            self::assertSame($expected, $frames, "in pieces of $size");
        }
    }

    public function testAPingBetweenThePartsOfAMessageIsNoPartOfIt(): void
    {
        $reader = new FrameReader(1000);
        $ping = str_repeat('p', 125);
        $reader->push(self::bytes(0x02, str_repeat('x', 950)) . self::bytes(0x89, $ping) . self::bytes(0x80, 'yy'));
        self::assertSame([[Frame::PING, $ping], [Frame::BINARY, str_repeat('x', 950) . 'yy']], self::read($reader));
    }

    public function testWhatAServerMayNotSendEndsTheConnection(): void
    {
        $cases = [
            CloseCode::PROTOCOL_ERROR => [
                self::bytes(0xC1, 'x'), self::bytes(0x83, 'x'), self::bytes(0x8B, ''), chr(0x81) . chr(0x81) . 'mmmmx', self::bytes(0x80, 'x'),
                self::bytes(0x01, 'x') . self::bytes(0x81, 'y'), self::bytes(0x09, 'x'), self::bytes(0x89, str_repeat('x', 126)),
                self::bytes(0x88, 'x'), self::bytes(0x88, pack('n', 1005)), self::bytes(0x88, pack('n', 999)), self::bytes(0x88, pack('n', 2000)),
            ],
            CloseCode::INVALID_TEXT => [self::bytes(0x81, "\xff"), self::bytes(0x01, "\xe4") . self::bytes(0x80, 'x')],
            CloseCode::TOO_BIG => [
                self::bytes(0x82, str_repeat('x', 1001)), chr(0x82) . chr(127) . str_repeat("\xff", 8), chr(0x82) . chr(127) . pack('J', 1 << 40),
                self::bytes(0x02, str_repeat('x', 600)) . self::bytes(0x80, str_repeat('x', 600)),
            ],
        ];
        foreach ($cases as $code => $streams) {
            foreach ($streams as $i => $bytes) {
                $reader = new FrameReader(1000);
                $reader->push($bytes);
                self::assertSame($code, self::lossOf(static fn () => self::read($reader)), "$code $i");
            }
        }
    }

    public function testWhatIsTooLargeIsRefusedBeforeItComes(): void
    {
        $reader = new FrameReader(1000);
        $reader->push(chr(0x82) . chr(127) . pack('J', 1001));
        self::assertSame(CloseCode::TOO_BIG, self::lossOf(static fn () => $reader->next()));
    }

    public function testAClientMasksItsFrames(): void
    {
        foreach ([0, 1, 3, 4, 125, 126, 65_535, 65_536] as $length) {
            $payload = $length === 0 ? '' : random_bytes($length);
            $bytes = Frame::encode(Frame::BINARY, $payload);
            self::assertSame(0x82, ord($bytes[0]));
            self::assertSame(0x80, ord($bytes[1]) & 0x80);
            $short = ord($bytes[1]) & 0x7F;
            $at = match ($short) {
                126 => 4,
                127 => 10,
                default => 2,
            };
            $written = match ($short) {
                126 => unpack('n', $bytes, 2)[1],
                127 => unpack('J', $bytes, 2)[1],
                default => $short,
            };
            self::assertSame($length, $written);
            $mask = substr($bytes, $at, 4);
            $plain = '';
            for ($i = 0; $i < $length; $i++) {
                $plain .= $bytes[$at + 4 + $i] ^ $mask[$i % 4];
            }
            self::assertSame($payload, $plain);
        }
    }

    public function testTheHandshake(): void
    {
        $handshake = new Handshake();
        $request = $handshake->request(Address::of('wss://example.com/ws/a?x=1'), ['since' => '{"all":"a b"}'], ['Cookie' => 'a=b']);
        self::assertStringStartsWith("GET /ws/a?x=1&since=%7B%22all%22%3A%22a%20b%22%7D HTTP/1.1\r\nHost: example.com\r\n", $request);
        self::assertStringEndsWith("\r\nCookie: a=b\r\n\r\n", $request);
        preg_match('/Sec-WebSocket-Key: (\S+)/', $request, $key);
        $accept = base64_encode(sha1("{$key[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", true));
        $good = ['HTTP/1.1 101 Switching Protocols', 'upgrade: WebSocket', 'CONNECTION: keep-alive, Upgrade', "sec-websocket-accept: $accept"];
        $check = static fn (array $lines, string $body = '') => self::lossOf(static fn () => $handshake->check(implode("\r\n", $lines), $body));
        self::assertNull($check($good));
        self::assertSame(CloseCode::ABNORMAL, $check([...array_slice($good, 0, 3), 'sec-websocket-accept: guessed']));
        self::assertSame(CloseCode::ABNORMAL, $check(array_slice($good, 0, 3)));
        self::assertSame(CloseCode::ABNORMAL, $check([...$good, 'Sec-WebSocket-Extensions: permessage-deflate']));
        self::assertSame(CloseCode::ABNORMAL, $check(['SSH-2.0']));
        foreach ([400 => 4400, 401 => 4401, 403 => 4403, 404 => 1006, 429 => 1006, 503 => 1006, 301 => 1006, 200 => 1006] as $status => $code) {
            self::assertSame($code, $check(["HTTP/1.1 $status X"], '{"message":"why"}'));
        }
    }

    public function testAddresses(): void
    {
        self::assertSame('tcp://127.0.0.1:3000', Address::of('ws://127.0.0.1:3000/ws')->socket());
        self::assertSame('ssl://[::1]:443', Address::of('https://[::1]/ws')->socket());
        self::assertSame('example.com', Address::of('wss://example.com:443')->hostHeader());
        foreach (['', 'x', 'ftp://a/', 'ws://', "ws://a/\r\nX: y", 'ws://a/ b', 'ws://me:secret@a/', '/ws'] as $url) {
            try {
                Address::of($url);
                self::fail("$url was taken");
            } catch (PushException $problem) {
                self::assertSame('PUSH_ERR_OPTIONS', $problem->errorCode);
                self::assertStringNotContainsString('secret', $problem->getMessage());
            }
        }
    }

    public function testOptionsThatOpenADoorAreRefused(): void
    {
        foreach ([
            ['headers' => ['X' => "a\r\nY: b"]], ['headers' => ["X\n" => 'a']], ['ssl' => ['verify_peer' => false]],
            ['ssl' => ['verify_peer_name' => 0]], ['connectTimeout' => 0.0], ['connectTimeout' => NAN],
        ] as $options) {
            try {
                new Options(...$options);
                self::fail(var_export($options, true) . ' was taken');
            } catch (PushException $problem) {
                self::assertSame('PUSH_ERR_OPTIONS', $problem->errorCode);
            }
        }
    }

    public function testDelaysGrowAndAreRandom(): void
    {
        $backoff = new Backoff(static fn () => 1.0);
        $delays = array_map(static fn () => $backoff->next(), range(1, 8));
        self::assertSame([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0], $delays);
        $backoff->reset();
        self::assertSame(1.0, $backoff->next());
        self::assertSame(0.0, (new Backoff(static fn () => 0.0))->next());
        for ($i = 0; $i < 2000; $i++) {
            self::assertLessThanOrEqual(30.0, $backoff->next());
        }
    }

    public function testPositions(): void
    {
        $topic = 'user:1';
        $no = static fn (string $topic) => false;
        $positions = new Positions([]);
        self::assertSame('', $positions->forUrl());
        self::assertSame([], $positions->welcomed([$topic => ['id' => 't.1.1-0', 'seq' => 1]], $no, []));
        self::assertTrue($positions->take($topic, 't.2.2-0'));
        self::assertFalse($positions->take($topic, 't.2.2-0'), 'a repeat');
        self::assertSame('{"user:1":"t.2.2-0"}', $positions->forUrl());
        // What comes before the answer comes again behind it.
        $positions->welcomed([$topic => ['id' => 't.4.4-0', 'seq' => 4, 'recovered' => true]], $no, []);
        self::assertSame([$topic => 't.2.2-0'], $positions->ids());
        self::assertTrue($positions->take($topic, 't.3.3-0'));
        $positions->lost([$topic], [$topic => ['id' => 'u.0.9-0', 'seq' => 0]]);
        self::assertSame([$topic => 'u.0.9-0'], $positions->ids());
        self::assertTrue($positions->take($topic, 'u.1.10-0'));
        // The node could not say where the topic is: the place is kept.
        $positions->forUrl();
        $positions->welcomed([$topic => []], $no, []);
        self::assertSame([$topic => 'u.1.10-0'], $positions->ids());
    }

    public function testATopicThatMustBeAskedForIgnoresWhatComesBefore(): void
    {
        $topic = 'channel:a';
        $positions = new Positions([$topic => 't.1.1-0']);
        $positions->welcomed([], static fn () => true, ['history']);
        self::assertFalse($positions->take($topic, 't.3.3-0'));
        self::assertSame(['since' => 't.1.1-0'], $positions->ask($topic));
        self::assertTrue($positions->answered($topic, ['id' => 't.3.3-0', 'seq' => 3, 'recovered' => true]));
        self::assertTrue($positions->take($topic, 't.2.2-0'));
        self::assertTrue($positions->take($topic, 't.3.3-0'));
        $positions->welcomed([], static fn () => true, ['history']);
        $positions->ask($topic);
        self::assertTrue($positions->answered($topic, ['id' => 'u.0.5-0', 'seq' => 0, 'recovered' => false]));
        self::assertSame([$topic => 't.3.3-0'], $positions->ids(), 'a connection that breaks now must bring the gap again');
        $positions->lost([$topic], null);
        self::assertSame([$topic => 'u.0.5-0'], $positions->ids());
    }

    public function testTheUrlNeverGrowsTooLong(): void
    {
        $since = [];
        for ($i = 0; $i < 500; $i++) {
            $since["channel:$i"] = "t.$i.1-0";
        }
        $positions = new Positions($since + ['user:1' => 't.1.1-0']);
        $text = $positions->forUrl();
        self::assertLessThan(4_000, strlen(rawurlencode($text)));
        self::assertArrayHasKey('user:1', json_decode($text, true));
    }

    public function testARosterFollows(): void
    {
        $roster = new Roster();
        $roster->take(['topic' => 'x', 'count' => 2, 'anonymous' => 1, 'members' => [['user' => 'a', 'connections' => 1]], 'more' => true]);
        self::assertFalse($roster->isKnown());
        $roster->take(['count' => 2, 'anonymous' => 1, 'members' => [['user' => '7', 'connections' => 1]], 'continued' => true]);
        self::assertSame([true, 2, 1], [$roster->isKnown(), $roster->count(), $roster->anonymous()]);
        $roster->take(['count' => 2, 'anonymous' => 0, 'left' => ['7'], 'joined' => [['user' => 'b']], 'updated' => [['user' => 'a', 'connections' => 2]]]);
        self::assertEqualsCanonicalizing(['a', 'b'], array_column($roster->members(), 'user'));
        self::assertSame(2, $roster->get('a')['connections']);
        self::assertNull($roster->get('7'));
        $roster->take(['count' => 0, 'anonymous' => 0, 'members' => []]);
        self::assertSame([], $roster->members());
    }
}

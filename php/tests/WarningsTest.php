<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests;

use FastifyPushBridge\Client\Frame;
use FastifyPushBridge\Client\Link;
use FastifyPushBridge\Client\LinkLost;
use FastifyPushBridge\Message;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Redis\PhpRedis;
use FastifyPushBridge\Warnings;
use PHPUnit\Framework\TestCase;

/** In applications whose error handler throws, also for what `@` silences, as many do since PHP 8. */
final class WarningsTest extends TestCase
{
    /** Where Debian has it; PREDIS names another one. */
    private const PREDIS = '/usr/share/php/Predis/autoload.php';

    protected function setUp(): void
    {
        $throw = static fn (int $level, string $text) => throw new \ErrorException($text, 0, $level);
        set_error_handler($throw, E_WARNING | E_NOTICE | E_USER_WARNING);
    }

    protected function tearDown(): void
    {
        restore_error_handler();
    }

    /** @return array{Link, resource} a link, and the other end */
    private static function link(): array
    {
        [$own, $other] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        stream_set_blocking($own, false);
        $class = new \ReflectionClass(Link::class);
        $link = $class->newInstanceWithoutConstructor();
        $class->getConstructor()->invoke($link, $own, 1_000);
        return [$link, $other];
    }

    private static function codeOf(\Closure $call): ?string
    {
        try {
            $call();
            return null;
        } catch (PushException $problem) {
            return $problem->errorCode;
        }
    }

    public function testTheyAreKeptAndTheHandlerIsBackBehindThem(): void
    {
        $said = [];
        self::assertFalse(Warnings::kept(static fn () => file_get_contents(__DIR__ . '/none'), $said));
        self::assertMatchesRegularExpression('/^Failed to open stream: No such file/', implode('|', $said));
        try {
            Warnings::kept(static fn () => throw new \LogicException('it throws by itself'));
        } catch (\LogicException) {
            // The handler must be back then as well.
        }
        $this->expectException(\ErrorException::class);
        trigger_error('of the application', E_USER_WARNING);
    }

    public function testALinkThatIsLostWhileItWritesSaysSo(): void
    {
        [$link, $other] = self::link();
        fclose($other);
        $this->expectException(LinkLost::class);
        $link->write(Frame::TEXT, '{}');
    }

    public function testALinkThatIsLostIsClosedQuietly(): void
    {
        [$link, $other] = self::link();
        fclose($other);
        $this->expectNotToPerformAssertions();
        $link->close(1000, '');
        $link->drop();
    }

    public function testASignalDoesNotEndTheWaiting(): void
    {
        if (!function_exists('pcntl_alarm')) {
            self::markTestSkipped('no extension pcntl');
        }
        [$link, $other] = self::link();
        $isAsync = pcntl_async_signals(true);
        // Only a wait that was interrupted gets what its handler writes before half a minute is over.
        pcntl_signal(SIGALRM, static fn () => fwrite($other, "\x81\x02{}"));
        pcntl_alarm(1);
        try {
            self::assertSame('{}', $link->read(30.0)?->payload);
        } finally {
            pcntl_signal(SIGALRM, SIG_DFL);
            pcntl_async_signals($isAsync);
        }
    }

    public function testPhpRedisThatWarnsBeforeItThrows(): void
    {
        if (!extension_loaded('redis')) {
            self::markTestSkipped('no extension redis');
        }
        // What the extension does when a TLS connection breaks.
        $redis = $this->getMockBuilder(\Redis::class)->disableOriginalConstructor()
            ->onlyMethods(['getMode', 'clearLastError', 'rawCommand', 'close'])->getMock();
        $redis->method('getMode')->willReturn(\Redis::ATOMIC);
        $redis->expects(self::once())->method('close');
        $redis->method('rawCommand')->willReturnCallback(static function (): never {
            trigger_error('Redis::rawCommand(): SSL: Broken pipe', E_USER_WARNING);
            throw new \RedisException('read error on connection');
        });
        [$reply] = (new PhpRedis($redis))->run([['key' => 'k', 'command' => ['PUBLISH', 'k', '{}']]]);
        self::assertInstanceOf(PushException::class, $reply);
        self::assertSame('PUSH_ERR_UNCONFIRMED', $reply->errorCode);
    }

    public function testPredisWhoseServerIsGone(): void
    {
        $file = getenv('PREDIS') ?: self::PREDIS;
        if (!is_file($file)) {
            self::markTestSkipped('no Predis');
        }
        require_once $file;
        $server = stream_socket_server('tcp://127.0.0.1:0');
        $predis = new \Predis\Client('tcp://' . stream_socket_get_name($server, false));
        $predis->connect();
        $peer = stream_socket_accept($server);
        // The end of a socket with unread bytes in it resets the connection: the next write fails.
        fwrite($predis->getConnection()->getResource(), "*1\r\n\$4\r\nPING\r\n");
        stream_set_read_buffer($peer, 0);
        self::assertSame('*', fread($peer, 1));
        fclose($peer);
        fclose($server);
        $publish = static fn () => Publisher::redis($predis)->publish('user:1', Message::of('n'));
        self::assertSame('PUSH_ERR_UNCONFIRMED', self::codeOf($publish));
        self::assertSame('PUSH_ERR_BROKER_AWAY', self::codeOf($publish));
    }
}

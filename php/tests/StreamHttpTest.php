<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests;

use FastifyPushBridge\Http\StreamHttp;
use FastifyPushBridge\PushException;
use PHPUnit\Framework\TestCase;

final class StreamHttpTest extends TestCase
{
    /** @return array{?string, string} */
    private static function failureOf(string $address, float $timeout = 0.2): array
    {
        try {
            (new StreamHttp($timeout))->send('POST', "http://$address/push", ['Content-Type: application/json'], '{}');
            return [null, ''];
        } catch (PushException $problem) {
            return [$problem->errorCode, $problem->getMessage()];
        }
    }

    /** @dataProvider handlers */
    public function testWhatFailedIsReadFromThisRequestAndNoOther(?\Closure $handler): void
    {
        // The kernel takes the connection and the request; nobody answers.
        $silent = stream_socket_server('tcp://127.0.0.1:0');
        $closed = stream_socket_server('tcp://127.0.0.1:0');
        [$taken, $nobody] = [stream_socket_get_name($silent, false), stream_socket_get_name($closed, false)];
        fclose($closed);
        // Each of them leaves an error that is of the wrong kind for the other.
        foreach ([[$taken, $nobody], [$nobody, $taken]] as [$before, $address]) {
            set_error_handler(null);
            error_clear_last();
            @file_get_contents("http://$before/", false, stream_context_create(['http' => ['timeout' => 0.1]]));
            set_error_handler($handler);
            [$code, $sentence] = self::failureOf($address);
            restore_error_handler();
            restore_error_handler();
            self::assertSame($address === $nobody ? 'PUSH_ERR_BROKER_AWAY' : 'PUSH_ERR_UNCONFIRMED', $code, $sentence);
            self::assertStringContainsString($address === $nobody ? 'refused' : 'HTTP request failed', $sentence);
        }
    }

    /**
     * A node that ends, or a proxy that gives up: the answer is cut, and a publication may have been published.
     *
     * @dataProvider handlers
     */
    public function testAnAnswerThatBreaksOffIsNone(?\Closure $handler): void
    {
        // It leaves bytes unread, so that its end resets the connection.
        $program = '$server = stream_socket_server("tcp://127.0.0.1:0"); echo stream_socket_get_name($server, false), "\n";
            $peer = stream_socket_accept($server, 60); stream_set_read_buffer($peer, 0); fread($peer, 1);
            fwrite($peer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[{");';
        $child = proc_open([PHP_BINARY, '-r', $program], [1 => ['pipe', 'w']], $pipes);
        set_error_handler($handler);
        [$code, $sentence] = self::failureOf(trim((string) fgets($pipes[1])), 30.0);
        restore_error_handler();
        proc_close($child);
        self::assertSame('PUSH_ERR_UNCONFIRMED', $code);
        self::assertStringContainsString('broke off', $sentence);
    }

    public static function handlers(): iterable
    {
        yield 'none' => [null];
        yield 'one that leaves silenced errors alone, as those of Laravel and Symfony' => [static fn () => null];
        yield 'one that throws' => [
            static fn (int $level, string $text) => throw new \ErrorException($text, 0, $level),
        ];
    }
}

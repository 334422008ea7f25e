<?php

declare(strict_types=1);

namespace FastifyPushBridge\Http;

use FastifyPushBridge\Clock;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Warnings;

/** PHP's own streams, where curl is missing. It needs allow_url_fopen, which is on by default. */
final class StreamHttp implements Http
{
    /** `caFile`: the certificate of your own authority. */
    public function __construct(private readonly float $timeout = 10.0, private readonly ?string $caFile = null)
    {
    }

    public function send(string $method, string $url, array $headers, ?string $body): array
    {
        $deadline = Clock::now() + $this->timeout;
        $stream = $this->open($url, $this->context($method, $headers, $body));
        try {
            $lines = stream_get_meta_data($stream)['wrapper_data'] ?? [];
            $body = $this->read($stream, $this->lengthOf($lines), $deadline);
            return ['status' => $this->statusOf($lines), 'body' => $body];
        } finally {
            Warnings::kept(static fn (): bool => fclose($stream));
        }
    }

    /**
     * What error_get_last() says may be of an earlier request.
     *
     * @param resource $context
     * @return resource
     */
    private function open(string $url, $context)
    {
        $said = [];
        $stream = Warnings::kept(static fn () => fopen($url, 'r', false, $context), $said);
        return $stream === false ? throw $this->failure(implode('; ', $said)) : $stream;
    }

    /** @return resource */
    private function context(string $method, array $headers, ?string $body)
    {
        $http = [
            'method' => $method,
            'header' => [...$headers, 'Connection: close'],
            'content' => $body ?? '',
            'timeout' => $this->timeout,
            // Without this an answer such as 401 would be a failure without its text.
            'ignore_errors' => true,
            // A redirect would carry the key to wherever it leads.
            'follow_location' => 0,
        ];
        $ssl = ['verify_peer' => true, 'verify_peer_name' => true];
        $ssl += $this->caFile === null ? [] : ['cafile' => $this->caFile];
        return stream_context_create(['http' => $http, 'ssl' => $ssl]);
    }

    private function statusOf(array $lines): int
    {
        return preg_match('~^HTTP/[\d.]+ (\d{3})~', (string) ($lines[0] ?? ''), $parts) === 1 ? (int) $parts[1] : 0;
    }

    /** A proxy may keep the connection although the answer is whole. */
    private function lengthOf(array $lines): int
    {
        $found = preg_grep('/^content-length: *\d+ *$/i', $lines);
        return $found === false || $found === [] ? PHP_INT_MAX : (int) trim(substr((string) end($found), 15));
    }

    /** @param resource $stream */
    private function read($stream, int $length, float $deadline): string
    {
        [$body, $part, $said] = ['', '', []];
        while (strlen($body) < $length && !feof($stream)) {
            if (Clock::now() > $deadline) {
                throw $this->unconfirmed('the answer did not come to its end in time');
            }
            $part = Warnings::kept(static fn () => fread($stream, 65_536), $said);
            if (stream_get_meta_data($stream)['timed_out']) {
                throw $this->unconfirmed('the answer did not come to its end in time');
            }
            $body .= (string) $part;
            if (strlen($body) > self::MAX_ANSWER) {
                throw $this->unconfirmed('the answer is too long');
            }
            if ($part === false) {
                break;
            }
        }
        // PHP takes a connection that was lost for one that has ended.
        $isShort = strlen($body) < $length && $length < PHP_INT_MAX;
        return $isShort || $part === false
            ? throw $this->unconfirmed(implode('; ', ['the answer broke off', ...$said]))
            : $body;
    }

    /** "HTTP request failed" comes after the connection: then the request was sent, whatever else was wrong. */
    private function failure(string $said): PushException
    {
        $isSent = str_contains($said, 'HTTP request failed');
        return !$isSent && preg_match('/refused|getaddrinfo|unreachable|No route|certificate|SSL|crypto/i', $said) === 1
            ? new PushException('PUSH_ERR_BROKER_AWAY', "the push API cannot be reached, and nothing was sent: $said")
            : $this->unconfirmed($said);
    }

    private function unconfirmed(string $said): PushException
    {
        return new PushException(
            'PUSH_ERR_UNCONFIRMED',
            "the push API gave no answer: it may or may not have been done ($said)",
        );
    }
}

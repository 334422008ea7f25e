<?php

declare(strict_types=1);

namespace FastifyPushBridge\Http;

use FastifyPushBridge\PushException;

/** PHP's own streams, where curl is missing. It needs allow_url_fopen, which is on by default. */
final class StreamHttp implements Http
{
    /** `caFile`: the certificate of your own authority. */
    public function __construct(private readonly float $timeout = 10.0, private readonly ?string $caFile = null)
    {
    }

    public function send(string $method, string $url, array $headers, ?string $body): array
    {
        $deadline = microtime(true) + $this->timeout;
        $stream = $this->open($url, $this->context($method, $headers, $body));
        try {
            $lines = stream_get_meta_data($stream)['wrapper_data'] ?? [];
            $body = $this->read($stream, $this->lengthOf($lines), $deadline);
            return ['status' => $this->statusOf($lines), 'body' => $body];
        } finally {
            fclose($stream);
        }
    }

    /**
     * What error_get_last() says may be of an earlier request: a handler of the application keeps it as it was.
     *
     * @param resource $context
     * @return resource
     */
    private function open(string $url, $context)
    {
        $warnings = [];
        set_error_handler(static function (int $level, string $text) use (&$warnings): bool {
            $warnings[] = (string) preg_replace('~^fopen\([^)]*\): ~', '', $text);
            return true;
        });
        try {
            $stream = fopen($url, 'r', false, $context);
        } finally {
            restore_error_handler();
        }
        return $stream === false ? throw $this->failure(implode('; ', $warnings)) : $stream;
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
        $body = '';
        while (strlen($body) < $length && !feof($stream)) {
            $part = fread($stream, 65_536);
            $body .= $part;
            if ($part === false || stream_get_meta_data($stream)['timed_out'] || microtime(true) > $deadline) {
                throw $this->unconfirmed('the answer did not come to its end in time');
            }
            if (strlen($body) > self::MAX_ANSWER) {
                throw $this->unconfirmed('the answer is too long');
            }
        }
        return $body;
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

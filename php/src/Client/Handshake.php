<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** The request for a WebSocket, and whether the server agreed. */
final class Handshake
{
    public const MAX_HEAD = 16_384;

    private const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

    private readonly string $key;

    public function __construct()
    {
        $this->key = base64_encode(random_bytes(16));
    }

    /**
     * @param array<string, string> $parameters of the URL besides its own
     * @param array<string, string> $headers
     */
    public function request(Address $address, array $parameters, array $headers): string
    {
        $lines = [
            'GET ' . $address->target($parameters) . ' HTTP/1.1',
            'Host: ' . $address->hostHeader(),
            'Upgrade: websocket',
            'Connection: Upgrade',
            "Sec-WebSocket-Key: $this->key",
            'Sec-WebSocket-Version: 13',
        ];
        foreach ($headers as $name => $value) {
            $lines[] = "$name: $value";
        }
        return implode("\r\n", $lines) . "\r\n\r\n";
    }

    /**
     * Checks the head of the answer, without the empty line. `body`: the beginning of what follows it.
     *
     * @throws LinkLost when the server refuses
     */
    public function check(string $head, string $body): void
    {
        $lines = explode("\r\n", $head);
        if (preg_match('~^HTTP/1\.1 (\d{3})( |\z)~', $lines[0], $parts) !== 1) {
            throw new LinkLost(CloseCode::ABNORMAL, 'what answers there is no web server');
        }
        $headers = self::headers(array_slice($lines, 1));
        $status = (int) $parts[1];
        if ($status !== 101) {
            throw self::refusal($status, $headers, $body);
        }
        $accept = base64_encode(sha1($this->key . self::GUID, true));
        $isWebSocket = strtolower($headers['upgrade'] ?? '') === 'websocket'
            && preg_match('/(^|,)\s*upgrade\s*(,|\z)/i', $headers['connection'] ?? '') === 1
            && ($headers['sec-websocket-accept'] ?? '') === $accept;
        if (!$isWebSocket || isset($headers['sec-websocket-extensions']) || isset($headers['sec-websocket-protocol'])) {
            throw new LinkLost(CloseCode::ABNORMAL, 'the server answered 101 without the headers that belong to it');
        }
    }

    /** @return array<string, string> */
    private static function headers(array $lines): array
    {
        $headers = [];
        foreach ($lines as $line) {
            [$name, $value] = array_pad(explode(':', $line, 2), 2, '');
            $headers[strtolower(trim($name))] = trim($value);
        }
        return $headers;
    }

    private static function refusal(int $status, array $headers, string $body): LinkLost
    {
        $answer = json_decode($body, true);
        $said = is_string($answer['message'] ?? null) ? ": {$answer['message']}" : '';
        $wait = $headers['retry-after'] ?? '';
        $after = preg_match('/^\d{1,4}\z/', $wait) === 1 ? (float) $wait : null;
        return new LinkLost(CloseCode::ofStatus($status), "the server answered $status$said", $after);
    }
}

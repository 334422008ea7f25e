<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\PushException;

/** Where to connect: a URL with ws, wss, http or https. */
final class Address
{
    private function __construct(
        public readonly bool $isSecure,
        public readonly string $host,
        public readonly int $port,
        private readonly string $path,
        private readonly string $query,
    ) {
    }

    public static function of(string $url): self
    {
        $parts = preg_match('/[\x00-\x20\x7f]/', $url) === 1 ? false : parse_url($url);
        $scheme = strtolower($parts['scheme'] ?? '');
        if (!in_array($scheme, ['ws', 'wss', 'http', 'https'], true) || ($parts['host'] ?? '') === '') {
            throw new PushException('PUSH_ERR_OPTIONS', 'the url is not one such as ws://127.0.0.1:3000/ws');
        }
        if (isset($parts['user'])) {
            throw new PushException(
                'PUSH_ERR_OPTIONS',
                'the url has a user: pass a ticket, or a header in the options',
            );
        }
        $isSecure = in_array($scheme, ['wss', 'https'], true);
        $port = $parts['port'] ?? ($isSecure ? 443 : 80);
        return new self($isSecure, $parts['host'], $port, $parts['path'] ?? '/', $parts['query'] ?? '');
    }

    /** What stands behind GET. @param array<string, string> $more further parameters */
    public function target(array $more): string
    {
        $added = http_build_query($more, '', '&', PHP_QUERY_RFC3986);
        $query = implode('&', array_filter([$this->query, $added], static fn (string $part) => $part !== ''));
        return $this->path . ($query === '' ? '' : "?$query");
    }

    public function hostHeader(): string
    {
        return $this->port === ($this->isSecure ? 443 : 80) ? $this->host : "$this->host:$this->port";
    }

    public function socket(): string
    {
        return ($this->isSecure ? 'ssl' : 'tcp') . "://$this->host:$this->port";
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

use FastifyPushBridge\PushException;

/** How a client connects and who it is. */
final class Options
{
    public function __construct(
        /** @var (\Closure(): string)|null a ticket, asked for at every attempt, since each works once */
        public readonly ?\Closure $ticket = null,
        /**
         * @var (\Closure(): array)|null the payload of the first message, where the server takes the identity from
         * that
         */
        public readonly ?\Closure $authenticate = null,
        /** @var array<string, string> headers of the upgrade, such as a cookie */
        public readonly array $headers = [],
        /** @var array<string, string> `positions()` of an earlier client of the same user */
        public readonly array $since = [],
        /**
         * @var array<string, mixed> SSL context options of PHP, such as cafile; the certificate is verified in any
         * case
         */
        public readonly array $ssl = [],
        /** Seconds for an attempt to connect, up to the answer to the upgrade. */
        public readonly float $connectTimeout = 10.0,
        /** The most bytes of one message of the server. */
        public readonly int $maxMessage = 16 * 1024 * 1024,
        /** @var (\Closure(): float)|null instead of a random number from 0 to 1, for tests */
        public readonly ?\Closure $random = null,
    ) {
        foreach ($headers as $name => $value) {
            // A line break would begin another header.
            $isName = preg_match('/^[A-Za-z0-9-]+\z/', (string) $name) === 1;
            if (!$isName || preg_match('/[\x00-\x1f\x7f]/', $value) === 1) {
                throw new PushException('PUSH_ERR_OPTIONS', 'a header has a character that is not allowed in it');
            }
        }
        if (!($connectTimeout > 0 && $connectTimeout <= 60)) {
            throw new PushException('PUSH_ERR_OPTIONS', 'connectTimeout is more than 0 and at most 60 seconds');
        }
        if ($ticket !== null && $authenticate !== null) {
            throw new PushException('PUSH_ERR_OPTIONS', 'give either ticket or authenticate');
        }
        foreach (['verify_peer', 'verify_peer_name'] as $name) {
            if (($ssl[$name] ?? true) !== true) {
                $sentence = "$name cannot be turned off: name the certificate of your authority as cafile";
                throw new PushException('PUSH_ERR_OPTIONS', $sentence);
            }
        }
    }

    /** @return array<string, mixed> */
    public function tls(Address $address): array
    {
        $own = ['verify_peer' => true, 'verify_peer_name' => true, 'allow_self_signed' => false, 'SNI_enabled' => true];
        return $own + $this->ssl + ['peer_name' => trim($address->host, '[]')];
    }
}

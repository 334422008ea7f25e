<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/**
 * A call of a node to this backend (events over HTTP): was it a node that wrote it, and just now?
 *
 * Answer a wrong signature with 500 and not with 401: a client that gets 401 stays away until somebody logs in again.
 * A call that is repeated within the tolerance has the same `id`: remember the ids of these minutes if that matters.
 */
final class SignedCall
{
    /** @var non-empty-list<string> */
    private readonly array $secrets;

    /** Several secrets while one replaces the other. `tolerance`: seconds between the node's clock and ours. */
    public function __construct(#[\SensitiveParameter] string|array $secrets, private readonly int $tolerance = 300)
    {
        $list = array_values((array) $secrets);
        foreach ($list as $secret) {
            if (!is_string($secret) || $secret === '') {
                throw new PushException('PUSH_ERR_OPTIONS', 'a secret is empty: is BACKEND_SECRET set?');
            }
        }
        if ($list === []) {
            throw new PushException('PUSH_ERR_OPTIONS', 'there is no secret: pass the one that the nodes have');
        }
        $this->secrets = $list;
    }

    /**
     * The call, decoded: `id`, `kind`, `time`, `node` and the fields of its kind.
     *
     * @param string $body the bytes as they came: `file_get_contents('php://input')`
     * @param string $header `$_SERVER['HTTP_PUSH_SIGNATURE'] ?? ''`
     * @return array<string, mixed>
     */
    public function verify(string $body, string $header, ?int $now = null): array
    {
        if (!$this->isSigned($body, $header, $now ?? time())) {
            throw new PushException(
                'PUSH_ERR_UNAUTHENTICATED',
                'the signature is wrong or too old: answer 500, not 401',
            );
        }
        $call = Json::decodeArray($body);
        if ($call === null || !is_string($call['kind'] ?? null)) {
            throw new PushException(
                'PUSH_ERR_JSON',
                'the signed body is no call: is it read from php://input unchanged?',
            );
        }
        return $call;
    }

    private function isSigned(string $body, string $header, int $now): bool
    {
        if (preg_match('/(?:^|,)t=(\d{1,12})(?:,|$)/D', $header, $time) !== 1) {
            return false;
        }
        if (abs($now - (int) $time[1]) > $this->tolerance) {
            return false;
        }
        preg_match_all('/(?:^|,)v1=([0-9a-f]{64})(?=,|$)/D', $header, $signatures);
        $isOurs = false;
        foreach ($this->secrets as $secret) {
            $expected = hash_hmac('sha256', "$time[1].$body", $secret);
            foreach ($signatures[1] as $signature) {
                $isOurs = hash_equals($expected, $signature) || $isOurs;
            }
        }
        return $isOurs;
    }
}

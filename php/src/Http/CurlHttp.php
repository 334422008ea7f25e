<?php

declare(strict_types=1);

namespace FastifyPushBridge\Http;

use FastifyPushBridge\PushException;

/** The extension curl. The connection is kept for the next request. */
final class CurlHttp implements Http
{
    private const NOT_SENT = [CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT, CURLE_SSL_CONNECT_ERROR,
        CURLE_SSL_PEER_CERTIFICATE, CURLE_SSL_CACERT, CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL];

    private readonly \CurlHandle $curl;

    /** `caFile`: the certificate of your own authority. */
    public function __construct(private readonly float $timeout = 10.0, private readonly ?string $caFile = null)
    {
        $this->curl = curl_init();
    }

    public function send(string $method, string $url, array $headers, ?string $body): array
    {
        $answer = '';
        $isTooLong = false;
        curl_reset($this->curl);
        curl_setopt_array($this->curl, $this->options($method, $url, $headers, $body));
        $take = static function ($curl, string $part) use (&$answer, &$isTooLong): int {
            $isTooLong = strlen($answer) + strlen($part) > self::MAX_ANSWER;
            $answer .= $isTooLong ? '' : $part;
            return $isTooLong ? 0 : strlen($part);
        };
        curl_setopt($this->curl, CURLOPT_WRITEFUNCTION, $take);
        if (curl_exec($this->curl) === false) {
            throw $this->failure($isTooLong);
        }
        return ['status' => curl_getinfo($this->curl, CURLINFO_RESPONSE_CODE), 'body' => $answer];
    }

    private function options(string $method, string $url, array $headers, ?string $body): array
    {
        $milliseconds = (int) ceil($this->timeout * 1000);
        return [
            CURLOPT_URL => $url,
            CURLOPT_CUSTOMREQUEST => $method,
            // curl would wait a second for "100 Continue" before it sends a large body.
            CURLOPT_HTTPHEADER => [...$headers, 'Expect:'],
            CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS,
            // A redirect would carry the key to wherever it leads.
            CURLOPT_FOLLOWLOCATION => false,
            CURLOPT_CONNECTTIMEOUT_MS => $milliseconds,
            CURLOPT_TIMEOUT_MS => $milliseconds,
            CURLOPT_NOSIGNAL => true,
            CURLOPT_SSL_VERIFYPEER => true,
            CURLOPT_SSL_VERIFYHOST => 2,
        ] + ($body === null ? [] : [CURLOPT_POSTFIELDS => $body])
          + ($this->caFile === null ? [] : [CURLOPT_CAINFO => $this->caFile]);
    }

    private function failure(bool $isTooLong): PushException
    {
        $said = $isTooLong ? 'the answer is too long' : curl_error($this->curl);
        // Also a timeout is harmless if there was no connection yet.
        $isConnected = curl_getinfo($this->curl, CURLINFO_PRETRANSFER_TIME) > 0;
        return in_array(curl_errno($this->curl), self::NOT_SENT, true) || !$isConnected
            ? new PushException('PUSH_ERR_BROKER_AWAY', "the push API cannot be reached, and nothing was sent: $said")
            : new PushException(
                'PUSH_ERR_UNCONFIRMED',
                "the push API gave no answer: it may or may not have been done ($said)",
            );
    }
}

<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\Http\CurlHttp;
use FastifyPushBridge\Http\Http;
use FastifyPushBridge\Http\StreamHttp;
use FastifyPushBridge\Identity;
use FastifyPushBridge\Json;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Result;

/** `POST /push` and the routes below it, for machines that do not reach Redis. */
final class HttpTransport implements Transport
{
    private readonly string $url;
    private readonly Http $http;

    /** `url`: that of `POST /push`. `key`: one of the option `api.keys`. */
    public function __construct(string $url, #[\SensitiveParameter] private readonly string $key, ?Http $http = null)
    {
        if (preg_match('~^https?://[^\s?#]+\z~i', $url) !== 1) {
            throw new PushException('PUSH_ERR_OPTIONS', 'the url is not one such as http://127.0.0.1:3000/push');
        }
        // A line break would begin another header.
        if (preg_match('/^[\x21-\x7e]+\z/', $key) !== 1) {
            throw new PushException(
                'PUSH_ERR_OPTIONS',
                'the key of the push API is empty or no key: is PUSH_API_KEY set?',
            );
        }
        $this->url = rtrim($url, '/');
        $this->http = $http ?? (function_exists('curl_init') ? new CurlHttp() : new StreamHttp());
    }

    public function publish(array $publications): array
    {
        $items = [];
        foreach ($publications as ['topic' => $topic, 'message' => $message]) {
            $items[] = $message->request($topic);
        }
        // Always a list: then also a single failure comes as an item, with the status 200.
        $answers = $this->call('POST', '', '[' . implode(',', $items) . ']');
        $results = [];
        foreach ($publications as $i => ['topic' => $topic]) {
            $results[] = self::resultOf($topic, $answers[$i] ?? null);
        }
        return $results;
    }

    public function command(string $target, array $command): Result
    {
        ['control' => $control] = $command;
        unset($command['control']);
        $body = Json::encode(['target' => $target] + $command, 'the command');
        return self::resultOf($target, $this->call('POST', "/$control", $body));
    }

    public function revoke(string $user): Result
    {
        return self::resultOf($user, $this->call('POST', '/revoke', Json::encode(['target' => $user], 'the command')));
    }

    public function ticket(array $identity, int $ttl): string
    {
        Identity::check($identity);
        $body = array_filter($identity, static fn (mixed $value) => $value !== null) + ['ttl' => $ttl];
        $ticket = $this->call('POST', '/tickets', Json::encode($body, 'the ticket'))['ticket'] ?? null;
        return is_string($ticket) ? $ticket : throw self::unreadable();
    }

    public function members(string $topic, string $cursor, int $count): array
    {
        return $this->get('/presence', ['topic' => $topic, 'cursor' => $cursor, 'count' => $count]);
    }

    public function user(string $user): array
    {
        return $this->get('/user', ['user' => $user]);
    }

    public function history(string $topic, array $query): array
    {
        return $this->get('/history', ['topic' => $topic] + $query);
    }

    public function nodes(): int
    {
        return (int) ($this->get('/status', [])['nodes'] ?? 0);
    }

    private function get(string $path, array $query): array
    {
        $text = http_build_query($query, '', '&', PHP_QUERY_RFC3986);
        return $this->call('GET', $path . ($text === '' ? '' : "?$text"), null);
    }

    private function call(string $method, string $path, ?string $body): array
    {
        $headers = ["Authorization: Bearer $this->key", 'Accept: application/json'];
        if ($body !== null) {
            $headers[] = 'Content-Type: application/json';
        }
        ['status' => $status, 'body' => $text] = $this->http->send($method, $this->url . $path, $headers, $body);
        $answer = Json::decodeArray($text);
        if ($status !== 200) {
            throw self::refusal($status, $answer);
        }
        return $answer ?? throw self::unreadable();
    }

    private static function refusal(int $status, ?array $answer): PushException
    {
        $said = is_string($answer['message'] ?? null) ? $answer['message'] : 'no message';
        if (is_string($answer['code'] ?? null)) {
            return new PushException($answer['code'], $said, status: $status);
        }
        $sentence = "the push API answered $status ($said): is the url that of POST /push?";
        // A proxy whose node does not answer may have handed the request on.
        $code = in_array($status, [502, 504], true) ? 'PUSH_ERR_UNCONFIRMED' : 'PUSH_ERR_INTERNAL';
        return new PushException($status === 503 ? 'PUSH_ERR_BROKER_AWAY' : $code, $sentence, status: $status);
    }

    private static function resultOf(string $topic, mixed $answer): Result
    {
        if (!is_array($answer)) {
            throw self::unreadable();
        }
        unset($answer['topic']);
        $error = $answer['error'] ?? null;
        if (!is_array($error)) {
            return Result::of($topic, $answer);
        }
        $problem = new PushException((string) ($error['code'] ?? ''), (string) ($error['message'] ?? ''));
        return Result::failed($topic, $problem);
    }

    private static function unreadable(): PushException
    {
        return new PushException(
            'PUSH_ERR_INTERNAL',
            'the push API gave an answer that is none of its own: is the url that of POST /push?',
        );
    }
}

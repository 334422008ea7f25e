<?php

declare(strict_types=1);

namespace FastifyPushBridge;

/** What a ticket stands for, checked as a node will check it: a page cannot say what was wrong with its ticket. */
final class Identity
{
    private const KEYS = ['user', 'join', 'allow', 'data', 'info', 'expires', 'issuedAt'];
    private const ACTIONS = ['subscribe', 'publish', 'presence', 'history'];
    private const MAX_BYTES = 65_536;
    private const MAX_INFO = 1_024;
    private const MAX_SAFE = 2 ** 53 - 1;

    /** @param array<string, mixed> $identity */
    public static function encode(array $identity): string
    {
        self::check($identity);
        $identity['issuedAt'] ??= (int) floor(microtime(true) * 1000);
        $text = Json::encode(array_filter($identity, static fn (mixed $value) => $value !== null), 'the ticket');
        if (strlen($text) > self::MAX_BYTES) {
            $sentence = 'the ticket has ' . strlen($text) . ' bytes; at most ' . self::MAX_BYTES . ' are kept: '
                . 'allow patterns such as channel:orders.* in place of many topics, and give less data and info';
            throw new PushException('PUSH_ERR_TOO_LARGE', $sentence);
        }
        return $text;
    }

    /**
     * How many bytes a ticket for `identity` has left.
     *
     * @param array<string, mixed> $identity
     */
    public static function room(array $identity): int
    {
        return self::MAX_BYTES - strlen(self::encode($identity));
    }

    /** @param array<string, mixed> $identity */
    public static function check(array $identity): void
    {
        foreach (array_keys($identity) as $key) {
            if (!in_array($key, self::KEYS, true)) {
                $known = implode(', ', self::KEYS);
                $sentence = 'unknown key ' . Topic::quote((string) $key) . ": a ticket has $known";
                throw new PushException('PUSH_ERR_UNKNOWN_KEY', $sentence);
            }
        }
        $problem = self::userProblem($identity['user'] ?? null)
            ?? self::joinProblem($identity['join'] ?? [])
            ?? self::allowProblem($identity['allow'] ?? [])
            ?? self::infoProblem($identity['info'] ?? null)
            ?? self::timeProblem($identity['expires'] ?? null, 'expires')
            ?? self::timeProblem($identity['issuedAt'] ?? null, 'issuedAt');
        if ($problem !== null) {
            throw new PushException('PUSH_ERR_FIELD', "the ticket has $problem");
        }
    }

    /** Why it is neither a topic nor a pattern such as `channel:orders.*`; null when it is one. */
    public static function patternProblem(string $pattern): ?string
    {
        if (!str_contains($pattern, '*')) {
            return Topic::problem($pattern);
        }
        $literal = str_replace('*', 'x', $pattern);
        return Topic::problem($literal) === null || trim($literal, 'x') === ''
            ? null
            : Topic::quote($pattern) . ' is no pattern of topics: write for example "channel:orders.*"';
    }

    private static function userProblem(mixed $user): ?string
    {
        if ($user === null) {
            return null;
        }
        if (is_int($user)) {
            return abs($user) > self::MAX_SAFE ? 'a user that is not a safe integer: give it as a string' : null;
        }
        $problem = is_string($user) ? Topic::nameProblem($user) : 'is neither a string nor an integer';
        return $problem === null ? null : "a user that $problem";
    }

    private static function joinProblem(mixed $topics): ?string
    {
        if (!is_array($topics) || !array_is_list($topics)) {
            return 'a join that is no list of topics';
        }
        foreach ($topics as $topic) {
            $problem = is_string($topic) ? Topic::problem($topic) : 'a topic is a string';
            if ($problem === null && !Topic::isOf($topic, 'channel', 'user')) {
                $problem = "$topic cannot be joined: name channel:NAME or user:ID";
            }
            if ($problem !== null) {
                return "a join that cannot be: $problem";
            }
        }
        return null;
    }

    private static function allowProblem(mixed $allow): ?string
    {
        if (!is_array($allow) || !array_is_list($allow)) {
            return 'an allow that is no list of topics';
        }
        foreach ($allow as $entry) {
            $problem = is_array($entry) ? self::grantProblem($entry) : self::entryProblem($entry);
            if ($problem !== null) {
                return "an allow that cannot be: $problem";
            }
        }
        return null;
    }

    private static function grantProblem(array $grant): ?string
    {
        $topics = $grant['topics'] ?? null;
        $actions = $grant['actions'] ?? null;
        $unknown = array_diff(array_keys($grant), ['topics', 'actions', 'info']);
        if ($unknown !== [] || !is_array($topics) || !is_array($actions)) {
            return 'an entry with actions is ["topics" => […], "actions" => […]], perhaps with an info';
        }
        if ($topics === [] || !array_is_list($topics) || !array_is_list($actions)) {
            return 'topics and actions are lists, and topics has at least one';
        }
        foreach ($actions as $action) {
            if (!in_array($action, self::ACTIONS, true)) {
                return 'actions are ' . implode(', ', self::ACTIONS);
            }
        }
        foreach ($topics as $topic) {
            $problem = self::entryProblem($topic);
            if ($problem !== null) {
                return $problem;
            }
        }
        return self::infoProblem($grant['info'] ?? null);
    }

    private static function entryProblem(mixed $entry): ?string
    {
        return is_string($entry) ? self::patternProblem($entry) : 'a topic is a string';
    }

    private static function infoProblem(mixed $info): ?string
    {
        $bytes = $info === null ? 0 : strlen(Json::encode($info, 'info'));
        return $bytes > self::MAX_INFO
            ? "an info of $bytes bytes: at most " . self::MAX_INFO . ' are shown to others'
            : null;
    }

    private static function timeProblem(mixed $time, string $key): ?string
    {
        if ($time === null) {
            return null;
        }
        if (!is_int($time)) {
            return "an $key that is not in milliseconds since 1970";
        }
        // time() is in seconds. Read as milliseconds, it would expire every connection at once.
        if ($time > 0 && $time < 100_000_000_000) {
            return "an $key in seconds: multiply it by 1000";
        }
        $now = microtime(true) * 1000;
        if ($key === 'expires') {
            return $time <= $now ? 'an expires in the past' : null;
        }
        return $time > $now + 60_000 ? 'an issuedAt that lies in the future: compare the clocks' : null;
    }
}
